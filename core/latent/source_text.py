"""The whole text that an example is from, as far as it was read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from core.latent.examples import ExampleRow, RowActivations
from core.tokens import texts_of_row

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex

MOST_TOKENS = 2_000
"""Of a text that is shown; of a longer one, what stands around the example."""


@dataclass(frozen=True, eq=False)
class SourceText:
    """One document of the text that was read, around one of its tokens."""

    name: str
    """What the document is called; "" where unknown."""
    places: Int[np.ndarray, " n"]
    """Where its tokens are in the token set, in the order of the document."""
    at: int
    """Which of them the example is about."""
    n_document: int
    """Tokens of the document that were read."""
    first: int
    """How many of these stand in front of what is shown."""

    def rows(self, context: int) -> list[int]:
        """Rows of the token set that hold it, ascending."""
        return np.unique(self.places // context).tolist()

    def example(self, index: "OpenIndex", read: RowActivations) -> ExampleRow:
        """The text with the activations in `read`, which has all its rows."""
        token_set = index.token_set
        row, position = np.divmod(self.places, token_set.context)
        ids = token_set.tokens[row, position].tolist()
        values = [float(read[int(r)][p]) for r, p in zip(row, position, strict=True)]
        return ExampleRow.from_parts(
            texts_of_row(index.vocabulary, ids).parts,
            values,
            peak=self.at,
            starts_inside=self.first > 0,
            ends_inside=self.first + len(self.places) < self.n_document,
        )

    def plain(self, index: "OpenIndex", *, most: int) -> str:
        """At most so many characters of it around the example: three quarters before it."""
        token_set = index.token_set
        row, position = np.divmod(self.places, token_set.context)
        ids = token_set.tokens[row, position].tolist()
        before = texts_of_row(index.vocabulary, ids[: self.at + 1]).text
        after = texts_of_row(index.vocabulary, ids[self.at + 1 :]).text
        room = max(most - len(after), most * 3 // 4)
        before = before[-room:] if room else ""
        return before + after[: most - len(before)]


def source_text(index: "OpenIndex", place: int) -> SourceText:
    """The document that the token at `place` of the index's text is from.

    Raises ValueError for a place that is in no document.
    """
    token_set = index.token_set
    inside = 0 <= place < token_set.tokens.size
    document = token_set.locate(np.array(place))[0] if inside else -1
    if int(document) < 0:
        raise ValueError(f"There is no text at place {place} of what was read; open an example.")
    own = np.flatnonzero(token_set.segment_document == int(document))
    own = own[np.argsort(token_set.segment_offset[own], kind="stable")]
    whole = np.concatenate(
        [token_set.segment_place[it] + np.arange(token_set.segment_length[it]) for it in own]
    )
    at = int(np.flatnonzero(whole == place)[0])
    first = max(0, min(at - MOST_TOKENS // 2, len(whole) - MOST_TOKENS))
    names = token_set.names
    return SourceText(
        name=names[int(document)] if int(document) < len(names) else "",
        places=whole[first : first + MOST_TOKENS],
        at=at - first,
        n_document=len(whole),
        first=first,
    )
