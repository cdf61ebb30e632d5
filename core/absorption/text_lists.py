"""Two lists of texts as a concept: what do those of the first have that the others have not?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from core.absorption.concepts import Concept
from core.absorption.sites import PER_TOKEN, Sites, drawn_positions, read_positions
from core.corpus.bos import token_in_front
from core.corpus.load import default_packing, prompt_tokens
from core.corpus.token_set import TokenSet
from core.enrichment.user_sets import WordList
from core.lease import Lease


def text_list_sites(
    lease: Lease, texts: Sequence[str], *, per_text: int = PER_TOKEN, seed: int = 0
) -> Sites:
    """Positions of some texts, at most `per_text` of each, drawn; the unit is the text, so a probe
    is judged on texts that it was not fitted on.

    Raises:
        ValueError: texts without a token, and as `core.absorption.sites.text_sites`.
    """
    tokens, document = text_list_rows(lease, texts, per_text=per_text, seed=seed)
    return replace(read_positions(lease, tokens), token=document, unit="texts")


def text_list_rows(
    lease: Lease, texts: Sequence[str], *, per_text: int = PER_TOKEN, seed: int = 0
) -> tuple[TokenSet, Int[np.ndarray, " n"]]:
    """The texts as rows in which the drawn positions count, and the text of each of these."""
    with lease.turn() as (model, saes):
        token_in_front(model, saes)
        packing = default_packing(model, saes[0])
    tokens = prompt_tokens(list(texts), lease.tokenizer, packing)
    flat = np.full(tokens.mask.size, -1, dtype=np.int64)
    segments = zip(
        tokens.segment_place, tokens.segment_length, tokens.segment_document, strict=True
    )
    for place, length, number in segments:
        flat[place : place + length] = number
    document = flat.reshape(tokens.mask.shape)
    mask = drawn_positions(tokens.mask & (document >= 0), document, per_text, seed)
    return replace(tokens, mask=mask), document[mask]


def check_lists(lists: Sequence[WordList]) -> tuple[WordList, WordList]:
    """The two lists. Raises ValueError for another number, and for texts that are in both."""
    if len(lists) != 2:
        raise ValueError(
            f"The file holds {len(lists)} list{'' if len(lists) == 1 else 's'}; give two lists of "
            "texts, first those that have the concept, then those that have not."
        )
    first, second = lists
    both = set(first.words) & set(second.words)
    if both:
        raise ValueError(f"{sorted(both)[0][:40]!r} is in both lists; take it out of one of them.")
    return first, second


def list_concept(sites: Sites, first: WordList, second: WordList) -> Concept:
    """True in the texts of the first list; `sites` are of both, the first list's in front."""
    return Concept(f"{first.name}, not {second.name}", "texts", sites.token < len(first.words))
