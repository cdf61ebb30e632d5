"""A short text at which a latent fires: what a link from it to another page takes along."""

from typing import TYPE_CHECKING

from core.latent.dashboard import read_dashboard
from core.prompt_latents.active import text_activations
from core.tokens import texts_of_row

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.lease import Lease
    from core.store import Store

MOST_BEFORE = 32
"""Tokens before the peak, where the text ends: pages that explain the last token explain it."""
MOST_CHARACTERS = 600
_TRIED = 5
_LIKE_ITSELF = 0.5


def example_text(lease: "Lease", store: "Store", index: "OpenIndex", latent: int) -> str:
    """The end of one of the latent's strongest examples, up to its peak; "" where it never fired.

    Cut out and read again, a text may be cut into other tokens: it is the first of the strongest
    five at whose end the lease's first SAE still has half of the example's activation, else the
    one with most of it; "" where the latent stays silent in all.
    """
    found = read_dashboard(store, index, latent)
    if found is None or found.count == 0:
        return ""
    token_set, top = index.token_set, found.examples.top
    best, best_share = "", 0.0
    for place, value in zip(top.places[:_TRIED].tolist(), top.values.tolist(), strict=False):
        row, position = divmod(int(place), token_set.context)
        begin = max(token_set.leading(row), position + 1 - MOST_BEFORE)
        ids = token_set.tokens[row, begin : position + 1].tolist()
        text = texts_of_row(index.vocabulary, ids).text
        if not text.strip() or len(text) > MOST_CHARACTERS:
            continue
        activations = text_activations(lease, latent, text).activations
        share = max((*activations[-2:], 0.0)) / value
        if share >= _LIKE_ITSELF:
            return text
        if share > best_share:
            best, best_share = text, share
    return best
