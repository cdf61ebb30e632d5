"""Tokens as rows of one length, with the way back from a position to the text it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from core.store.fingerprint import fingerprint

Place = Int[np.ndarray, "..."]
"""Positions of a `TokenSet` as one number: row · context + position in the row."""


@dataclass(frozen=True, eq=False)
class TokenSet:
    """What a model is run on: `n_rows` sequences of `context` tokens, padded on the right.

    Attention is causal, so padding on the right reaches no position that counts.
    """

    tokens: Int[np.ndarray, "n_rows context"]
    """int32 token ids; padding repeats an ordinary id and is told by `lengths`."""
    mask: Bool[np.ndarray, "n_rows context"]
    """Positions that count; padding never does, BOS by choice."""
    lengths: Int[np.ndarray, " n_rows"]
    """Tokens of each row that are not padding."""
    segment_place: Int[np.ndarray, " n_segments"]
    """Where each stretch of one document begins, ascending (int64 places)."""
    segment_length: Int[np.ndarray, " n_segments"]
    """Tokens of each stretch."""
    segment_document: Int[np.ndarray, " n_segments"]
    """Document that each stretch is from."""
    segment_offset: Int[np.ndarray, " n_segments"]
    """Offset within that document, in tokens, of the stretch's first token."""
    names: tuple[str, ...] = ()
    """What each document is called; empty where unknown."""

    def __post_init__(self) -> None:
        shapes = {self.tokens.shape, self.mask.shape}
        if self.tokens.ndim != 2 or len(shapes) != 1 or len(self.lengths) != len(self.tokens):
            raise ValueError(
                f"tokens {self.tokens.shape}, mask {self.mask.shape} and lengths "
                f"{self.lengths.shape} do not fit; give [n_rows, context] twice and [n_rows]."
            )
        if self.tokens.size >= 2**31:
            raise ValueError(f"{self.tokens.size} positions are too many; keep below 2**31.")

    @property
    def n_rows(self) -> int:
        """Number of sequences."""
        return self.tokens.shape[0]

    @property
    def context(self) -> int:
        """Length of a sequence in tokens, BOS and padding included."""
        return self.tokens.shape[1]

    @cached_property
    def n_tokens(self) -> int:
        """Positions that count."""
        return int(self.mask.sum())

    @cached_property
    def digest(self) -> str:
        """sha256 over everything but the names: what results computed on these tokens key by."""
        return fingerprint({n: a for n, a in self.to_arrays().items() if n != "names"})

    @classmethod
    def from_rows(
        cls,
        tokens: Int[Tensor, "n_rows context"] | Int[np.ndarray, "n_rows context"],
        *,
        bos_id: int | None = None,
        pad_id: int | None = None,
        include_bos: bool = False,
        names: Sequence[str] = (),
    ) -> "TokenSet":
        """Rows that are tokenized already; each is a document of its own.

        Trailing `pad_id`s are padding. Every position that holds `bos_id` is left out unless
        `include_bos`. Raises ValueError for anything but a matrix of whole numbers.
        """
        array = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens)
        if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iu":
            raise ValueError(
                f"tokens have shape {array.shape} and dtype {array.dtype}; give token ids as a "
                "non-empty [n_rows, context]."
            )
        array = array.astype(np.int32)
        n_rows, context = array.shape
        lengths = np.full(n_rows, context)
        if pad_id is not None:
            is_text = array != pad_id
            lengths = np.where(is_text.any(1), context - is_text[:, ::-1].argmax(1), 0)
        mask = np.arange(context) < lengths[:, None]
        if bos_id is not None:
            # Where padding and BOS are one token, a row of BOS alone still has its BOS.
            if pad_id == bos_id:
                lengths = np.maximum(lengths, array[:, 0] == bos_id)
            if not include_bos:
                mask &= array != bos_id
        starts_with_bos = (array[:, 0] == bos_id) if bos_id is not None else np.zeros(n_rows, bool)
        skip = starts_with_bos.astype(np.int64)
        return cls(
            tokens=array,
            mask=mask,
            lengths=lengths.astype(np.int32),
            segment_place=np.arange(n_rows, dtype=np.int64) * context + skip,
            segment_length=np.maximum(lengths - skip, 0).astype(np.int32),
            segment_document=np.arange(n_rows, dtype=np.int32),
            segment_offset=np.zeros(n_rows, dtype=np.int32),
            names=tuple(names),
        )

    def locate(self, places: Place) -> tuple[Place, Place]:
        """(document, offset in tokens) of each place; -1 for BOS and padding."""
        places = np.asarray(places, dtype=np.int64)
        if len(self.segment_place) == 0:
            return np.full(places.shape, -1), np.full(places.shape, -1)
        segment = np.searchsorted(self.segment_place, places, side="right") - 1
        inside = places - self.segment_place[segment]
        ok = (segment >= 0) & (inside < self.segment_length[segment]) & (places >= 0)
        document = np.where(ok, self.segment_document[segment], -1)
        return document, np.where(ok, self.segment_offset[segment] + inside, -1)

    def leading(self, row: int) -> int:
        """Positions in front of the text of a row: 1 where BOS was put there, else 0."""
        return int(self.lengths[row] > 0 and self.locate(np.array(row * self.context))[0] < 0)

    def windows(self, places: Place, before: int, after: int) -> Int[np.ndarray, "... width"]:
        """int32 token ids around each place, [..., before + 1 + after].

        -1 stands outside the row, in its padding, and everywhere for a place of -1.
        """
        if before < 0 or after < 0:
            raise ValueError(f"before {before} and after {after} must be 0 or more tokens.")
        places = np.asarray(places, dtype=np.int64)
        rows, positions = np.divmod(np.maximum(places, 0), self.context)
        columns = positions[..., None] + np.arange(-before, after + 1)
        lengths = self.lengths[rows][..., None]
        ok = (columns >= 0) & (columns < lengths) & (places[..., None] >= 0)
        ids = self.tokens[rows[..., None], columns.clip(0, self.context - 1)]
        return np.where(ok, ids, np.int32(-1))

    def rows(self, first: int, last: int) -> "TokenSet":
        """Rows `first` to `last` (exclusive) as a set of its own; documents keep their numbers."""
        low, high = first * self.context, last * self.context
        inside = (self.segment_place >= low) & (self.segment_place < high)
        return replace(
            self,
            tokens=self.tokens[first:last],
            mask=self.mask[first:last],
            lengths=self.lengths[first:last],
            segment_place=self.segment_place[inside] - low,
            segment_length=self.segment_length[inside],
            segment_document=self.segment_document[inside],
            segment_offset=self.segment_offset[inside],
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, as the store keeps them."""
        return {
            "tokens": self.tokens,
            "mask": self.mask,
            "lengths": self.lengths,
            "segment_place": self.segment_place,
            "segment_length": self.segment_length,
            "segment_document": self.segment_document,
            "segment_offset": self.segment_offset,
            "names": np.array(self.names, dtype=np.str_),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "TokenSet":
        """The set that `to_arrays` gave."""
        others = {name: array for name, array in arrays.items() if name != "names"}
        return cls(**others, names=tuple(arrays["names"].tolist()))
