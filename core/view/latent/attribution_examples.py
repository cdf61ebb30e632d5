"""The strongest examples of a latent, as prompts for attribution."""

from core.activations import open_part
from core.activations.text_index import OpenIndex
from core.store import Store
from core.tokens import texts_of_row
from core.view.latent.attribution import MOST_EXAMPLES, SourceText
from core.view.markup import visible_token

_BEFORE, _AFTER = 6, 2


def strongest_examples(store: Store, index: OpenIndex, latent: int) -> list[tuple[str, SourceText]]:
    """(the words around the peak, the row up to its end) of each example, best first.

    Empty for a latent that was never active, or an index that is no longer in the store.
    """
    part = open_part(store, index.key, latent)
    if part is None:
        return []
    token_set = index.token_set
    found = []
    for place in part.top_places[latent - part.first_latent][:MOST_EXAMPLES]:
        if place < 0:
            break
        row, position = divmod(int(place), token_set.context)
        ids = token_set.tokens[row, : int(token_set.lengths[row])]
        around = ids[max(0, position - _BEFORE) : position + 1 + _AFTER]
        words = texts_of_row(index.vocabulary, around.tolist()).text
        row_text = SourceText(tuple(int(it) for it in ids), token_set.leading(row))
        found.append((words, row_text))
    return [(_short(words), text) for words, text in found]


def _short(text: str) -> str:
    shown = " ".join(text.split()) or visible_token(text)
    return shown if shown.isprintable() else visible_token(shown)
