"""What a request is about: rows of text, positions in them, and concepts that are true of some."""

from collections.abc import Mapping

import numpy as np

from core.absorption.concepts import Concept, check_concept, latent_concept, token_concepts
from core.absorption.run import AbsorptionRequest
from core.absorption.sites import Sites, drawn_text, read_positions, vocabulary_rows
from core.absorption.spelling import Spelling, asked_spelling
from core.absorption.text_lists import check_lists, list_concept, text_list_rows, text_list_sites
from core.corpus.token_set import TokenSet
from core.enrichment.run import find_sets
from core.enrichment.user_sets import WordList, load_lists
from core.lease import Lease
from core.sae_quality.run import text_of
from core.store import Store
from core.tokens import vocabulary_texts

TEXT_OF = {"lists": "the lists", "spelling": "prompts that ask for the first letter"}
"""What is read, in words, where it is not the text of the request."""
_SHOWN = 80


def rows_of(
    lease: Lease, store: Store, request: AbsorptionRequest
) -> tuple[TokenSet, Spelling | None]:
    """The rows in which the positions that count are those of `read_sites`, in its order; and the
    spelling prompts, where they are such. Raises ValueError as `read_sites`."""
    if request.source == "spelling":
        prompts, _ = asked_spelling(lease)
        return prompts.tokens, prompts
    if request.source == "lists":
        return text_list_rows(lease, _texts(store, request))[0], None
    if request.source == "vocabulary":
        return vocabulary_rows(lease), None
    return drawn_text(text_of(lease, store, request.corpus, request.tokens, together=True)), None


def read_sites(
    lease: Lease, store: Store, request: AbsorptionRequest
) -> tuple[Sites, np.ndarray, str]:
    """The positions that the request is about, the text of each token, or of each list's text
    (cut), and what a reader should know of them, in a sentence.

    Raises ValueError for a text that cannot be read, and for a model that does not spell.
    """
    if request.source == "lists":
        texts = _texts(store, request)
        shown = [it if len(it) <= _SHOWN else it[: _SHOWN - 1] + "…" for it in texts]
        return text_list_sites(lease, texts), np.array(shown, dtype=object), ""
    with lease.turn() as (model, _):
        vocabulary = vocabulary_texts(model).array
    if request.source == "spelling":
        prompts, accuracy = asked_spelling(lease)
        return read_positions(lease, prompts.tokens), vocabulary, accuracy.sentence
    return read_positions(lease, rows_of(lease, store, request)[0]), vocabulary, ""


def find_concepts(
    lease: Lease, store: Store, request: AbsorptionRequest, sites: Sites
) -> tuple[list[Concept], Mapping[str, str]]:
    """The concepts of the request, and why others are left out, by name."""
    if request.parent is not None:
        name = f"latent {request.parent_latent} of {request.parent[1]}"
        concept = latent_concept(sites, request.parent_latent, name=name)
        check_concept(concept, sites)
        return [concept], {}
    if request.source == "lists":
        concept = list_concept(sites, *_lists(store, request))
        check_concept(concept, sites)
        return [concept], {}
    sets = find_sets(lease, store, request.mine).sets
    if request.source == "spelling":
        return token_concepts([it for it in sets if it.group == "first letter"], sites)
    return token_concepts(sets, sites)


def _texts(store: Store, request: AbsorptionRequest) -> list[str]:
    return [text for one in _lists(store, request) for text in one.words]


def _lists(store: Store, request: AbsorptionRequest) -> tuple[WordList, WordList]:
    return check_lists(load_lists(store, request.mine))
