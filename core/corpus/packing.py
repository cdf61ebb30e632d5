"""Lay documents out in rows, as dashboards do (one document a row) or as SAE training did."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int

from core.corpus.token_set import TokenSet

Layout = Literal["documents", "windows"]
"""`documents`: a row holds (a part of) one document; `windows`: documents follow one another."""


@dataclass(frozen=True)
class Packing:
    """How documents become rows."""

    context: int
    """Most tokens of a row, BOS included."""
    layout: Layout = "documents"
    """One document a row, or windows over documents laid end to end."""
    prepend_bos: bool = True
    """Whether rows begin with BOS (and, in windows, documents are parted by one)."""
    include_bos: bool = False
    """Whether BOS positions count; models use them as a rest for attention."""
    max_tokens: int | None = None
    """Stop once this many tokens of text are laid out; None takes all."""

    def __post_init__(self) -> None:
        if self.context < 2:
            raise ValueError(f"context is {self.context}; a row needs 2 tokens or more.")
        if self.layout not in ("documents", "windows"):
            raise ValueError(f"layout is {self.layout!r}; use 'documents' or 'windows'.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; use 1 or more, or None.")


@dataclass
class _Rows:
    context: int
    bos_id: int | None
    tokens: list[np.ndarray] = field(default_factory=list)
    """Of each closed row, without padding."""
    segments: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """Row, position in it, length, document and offset of each stretch of text."""
    row: list[np.ndarray] = field(default_factory=list)
    used: int = 0

    @property
    def room(self) -> int:
        return self.context - self.used

    def put_bos(self) -> None:
        if self.bos_id is not None and self.room:
            self.row.append(np.array([self.bos_id], dtype=np.int32))
            self.used += 1

    def put(self, ids: np.ndarray, document: int, offset: int) -> int:
        """Lay out the beginning of `ids`; how many found room."""
        n = min(self.room, len(ids))
        if n:
            self.segments.append((len(self.tokens), self.used, n, document, offset))
            self.row.append(ids[:n])
            self.used += n
        return n

    def close(self) -> None:
        if self.used:
            self.tokens.append(np.concatenate(self.row))
            self.row, self.used = [], 0


def pack(
    documents: Iterable[tuple[str, Int[np.ndarray, " n"]]],
    packing: Packing,
    *,
    bos_id: int | None,
) -> TokenSet:
    """Rows of `(name, token ids)` documents, which carry no BOS of their own.

    Documents longer than a row go on in the next one; in windows, a row is filled with the next
    document after one BOS, and only the last row is padded (SAE training dropped it). Documents
    are taken one at a time and no more than `max_tokens` need, so a stream may be endless. Rows
    are as wide as the longest of them, however wide they might be, and take 5 bytes a position.

    Raises:
        ValueError: no tokens at all, or BOS wanted from a tokenizer that has none.
    """
    if packing.prepend_bos and bos_id is None:
        raise ValueError("This tokenizer has no BOS token; choose prepend_bos=False.")
    rows = _Rows(packing.context, bos_id if packing.prepend_bos else None)
    names: list[str] = []
    left = packing.max_tokens
    for name, ids in _non_empty(documents):
        taken = ids if left is None else ids[:left]
        _lay_out(rows, np.asarray(taken, dtype=np.int32), len(names), packing.layout)
        names.append(name)
        if left is not None:
            left -= len(taken)
            if left <= 0:
                break
    rows.close()
    if not names:
        raise ValueError("The corpus holds no text; choose another source or column.")
    lengths = np.array([len(row) for row in rows.tokens], dtype=np.int32)
    context = int(lengths.max())
    tokens = np.zeros((len(lengths), context), dtype=np.int32)
    for row, ids in zip(tokens, rows.tokens, strict=True):
        row[: len(ids)] = ids
    pieces = np.array(rows.segments, dtype=np.int64).reshape(-1, 5)
    segments = np.c_[pieces[:, 0] * context + pieces[:, 1], pieces[:, 2:]]
    mask = np.zeros(tokens.shape, dtype=bool)
    if packing.include_bos:
        mask |= np.arange(context) < lengths[:, None]
    else:
        # Text counts, and nothing else: +1 where a stretch begins, -1 after its end.
        steps = np.zeros(tokens.size + 1, dtype=np.int8)
        np.add.at(steps, segments[:, 0], 1)
        np.add.at(steps, segments[:, 0] + segments[:, 1], -1)
        mask |= np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(tokens.shape)
    return TokenSet(
        tokens=tokens,
        mask=mask,
        lengths=lengths,
        segment_place=segments[:, 0],
        segment_length=segments[:, 1].astype(np.int32),
        segment_document=segments[:, 2].astype(np.int32),
        segment_offset=segments[:, 3].astype(np.int32),
        names=tuple(names),
    )


def _non_empty(
    documents: Iterable[tuple[str, np.ndarray]],
) -> Iterator[tuple[str, np.ndarray]]:
    return ((name[:120], ids) for name, ids in documents if len(ids))


def _lay_out(rows: _Rows, ids: np.ndarray, document: int, layout: Layout) -> None:
    if layout == "documents":
        rows.close()
    rows.put_bos()
    offset = 0
    while True:
        offset += rows.put(ids[offset:], document, offset)
        if rows.room == 0:
            rows.close()
            if offset < len(ids):
                rows.put_bos()
        if offset == len(ids):
            return
