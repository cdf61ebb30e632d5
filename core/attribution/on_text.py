"""A latent taken apart by sources at a token of a typed text, or of one of its examples."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from core.activations.stored_index import open_part
from core.activations.text_index import OpenIndex
from core.attribution.sources import SourceAttribution, attribute_to_sources, why_no_sources
from core.corpus.prompt import prompt_for, reading_notes
from core.lease import Lease
from core.prompt_latents.active import active_latents
from core.saes import sae_hook_name
from core.store import Store
from core.tokens import row_texts, texts_of_row
from core.view.markup import visible_token

_BEFORE, _AFTER = 6, 2


@dataclass(frozen=True)
class SourceText:
    """A text at which a latent can be taken apart."""

    token_ids: tuple[int, ...]
    """All tokens."""
    n_leading: int
    """Positions in front of the text: 1 for a beginning-of-text token, or 0."""
    omitted: int = 0
    """Tokens at the end of the text for which there is no room."""
    notes: tuple[str, ...] = ()
    """What a reader should know about how the text was read, in sentences."""


@dataclass(frozen=True, eq=False)
class Sources:
    """One latent at one position of one text, and what brought it there."""

    text: SourceText
    """The text."""
    tokens: tuple[str, ...]
    """Texts of all tokens, each in a cell of its own, of one in front of the text too."""
    parts: tuple[str, ...]
    """What each adds to the text, as `RowTexts.parts`."""
    activations: Float[np.ndarray, " n_positions"]
    """The latent's activation at each."""
    destination: int
    """Position that is looked at."""
    attribution: SourceAttribution
    """What each head brings there from each position up to it."""

    @property
    def number(self) -> int:
        """The destination as a number of the text's tokens, from 1."""
        return self.destination - self.text.n_leading + 1


def reason_against(lease: Lease) -> str | None:
    """Why latents of the lease's first SAE do not come apart by sources; None if they do."""
    with lease.turn() as (_, (sae, *_)):
        return why_no_sources(
            sae_hook_name(sae),
            architecture=sae.cfg.architecture(),
            normalize=sae.cfg.normalize_activations,
        )


def typed_text(lease: Lease, text: str) -> SourceText:
    """A typed text as the lease's first SAE should read it. Raises ValueError for an empty one."""
    with lease.turn() as (model, (sae, *_)):
        prompt = prompt_for(model, [sae], text)
        notes = reading_notes(model, sae)
        return SourceText(prompt.ids, prompt.n_leading, prompt.omitted, notes)


def strongest_examples(
    store: Store, index: OpenIndex, latent: int, *, most: int
) -> list[tuple[str, SourceText]]:
    """(the words around the peak, the row up to its end) of up to `most` examples, best first.

    Empty for a latent that was never active, or an index that is no longer in the store.
    """
    part = open_part(store, index.key, latent)
    if part is None:
        return []
    token_set = index.token_set
    found = []
    for place in part.top_places[latent - part.first_latent][:most]:
        if place < 0:
            break
        row, position = divmod(int(place), token_set.context)
        ids = token_set.tokens[row, : int(token_set.lengths[row])].tolist()
        around = ids[max(0, position - _BEFORE) : position + 1 + _AFTER]
        words = texts_of_row(index.vocabulary, around).text
        found.append((_short(words), SourceText(tuple(ids), token_set.leading(row))))
    return found


def find_sources(lease: Lease, latent: int, text: SourceText, number: int = 0) -> Sources:
    """Take a latent of the lease's first SAE apart at the text's token of that number, from 1, or
    (0) where it is strongest.

    A number beyond the text is read as 0. Raises ValueError as `attribute_to_sources`.
    """
    with lease.turn() as (model, (sae, *_)):
        tokens = torch.tensor([text.token_ids], device=sae.W_dec.device)
        activations = active_latents(model, sae, tokens, n_leading=text.n_leading).of(latent)
        destination = number - 1 + text.n_leading
        if not text.n_leading <= destination < len(activations):
            # Where it is active nowhere, at the end, which everything before it can reach.
            fires = activations.any()
            destination = int(activations.argmax()) if fires else len(activations) - 1
        found = attribute_to_sources(model, sae, tokens, latent, destination)
        texts = row_texts(model.tokenizer, text.token_ids)
    return Sources(text, texts.cells, texts.parts, activations, destination, found)


def _short(text: str) -> str:
    joined = " ".join(text.split()) or visible_token(text)
    return joined if joined.isprintable() else visible_token(joined)
