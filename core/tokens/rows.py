"""A row of tokens as text that reads as the original, its tokens still to be told apart.

Byte-level tokenizers, and those that fall back to bytes, split what they do not know (emoji, other
scripts) within characters. Here the tokens that make up a character only together are one piece.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from core.tokens.vocabulary import NAMED_BYTES, TokenTexts, token_texts

BESIDE = "·"
"""Stands between the name of a byte and the character that it is a part of."""


@dataclass(frozen=True)
class RowTexts:
    """Two texts for each token of a row."""

    parts: tuple[str, ...]
    """What each adds to the text. Together they are the text; of tokens that make up characters
    only together, the first has all of them and the others have ""."""
    cells: tuple[str, ...]
    """What stands in a cell of its own for each: its own text, and for a part of a character that
    character behind the name of its bytes, `<0xE6>·日`."""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)


@dataclass(frozen=True)
class Pieces:
    """Tokens of a text, those that make up characters only together as one piece."""

    texts: list[str]
    """Text of each piece."""
    activations: list[float]
    """The strongest activation of its tokens; NaN where none is known."""
    n_tokens: list[int]
    """Tokens of each piece."""
    peak: int | None
    """Piece that holds the token in question."""

    @property
    def starts(self) -> list[int]:
        """Number of the first token of each piece."""
        ends = np.cumsum(self.n_tokens, dtype=np.int64)
        return (ends - np.array(self.n_tokens, dtype=np.int64)).tolist()


def row_texts(tokenizer: Any, ids: Sequence[int]) -> RowTexts:
    """The texts of a row of tokens; numbers without a tokenizer (None)."""
    return texts_of_row(token_texts(tokenizer), ids)


def texts_of_row(texts: TokenTexts, ids: Sequence[int]) -> RowTexts:
    """`row_texts` with the texts of the tokens in hand."""
    parts: list[str] = []
    cells: list[str] = []
    start = 0
    while start < len(ids):
        stop = start + 1
        if not texts.is_partial(ids[start]):
            parts.append(texts.within(ids[start]))
            cells.append(texts.text(ids[start]))
            start = stop
            continue
        while stop < len(ids) and texts.is_partial(ids[stop]):
            stop += 1
        for first, last, text in _whole([texts.bytes_of(token) for token in ids[start:stop]]):
            names = [texts.text(token) for token in ids[start + first : start + last]]
            parts += [text, *("" for _ in names[1:])]
            cells += names if len(names) == 1 else [_beside(name, text) for name in names]
        start = stop
    return RowTexts(tuple(parts), tuple(cells))


def joined_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text that a row of tokens stands for, special tokens by their name.

    Unlike the tokenizer's `decode`, it strips and tidies nothing.
    """
    return row_texts(tokenizer, ids).text


def join_parts(
    parts: Sequence[str], activations: Sequence[float], *, peak: int | None = None
) -> Pieces:
    """`RowTexts.parts` as pieces, each with the strongest activation of its tokens.

    `peak` is the number of a token.
    """
    out = Pieces([], [], [], None)
    found_peak = None
    for number, (part, activation) in enumerate(zip(parts, activations, strict=True)):
        if part or not out.texts:
            out.texts.append(part)
            out.activations.append(float(activation))
            out.n_tokens.append(1)
        else:
            out.n_tokens[-1] += 1
            known = [value for value in (out.activations[-1], activation) if not math.isnan(value)]
            out.activations[-1] = float(max(known, default=math.nan))
        if number == peak:
            found_peak = len(out.texts) - 1
    return Pieces(out.texts, out.activations, out.n_tokens, found_peak)


def join_row(
    tokenizer: Any, ids: Sequence[int], activations: Sequence[float], *, peak: int | None = None
) -> Pieces:
    """The pieces of a row of tokens."""
    return join_parts(row_texts(tokenizer, ids).parts, activations, peak=peak)


def whole_characters(
    windows: Int[np.ndarray, "*batch window"], texts: TokenTexts
) -> tuple[Int[np.ndarray, "*batch window"], list[str]]:
    """Windows of token ids (-1: none) in which characters of several tokens can be read.

    Returns the windows and the text of each id in them. Where tokens make up characters together,
    the first has a new id that stands for the characters, and the others one that stands for "".
    """
    vocabulary = [texts.plain(token) for token in range(len(texts))]
    is_part = np.append(texts.partial, False)[np.clip(windows, -1, len(texts) - 1)]
    if not is_part.any():
        return windows, vocabulary
    flat = windows.reshape(-1, windows.shape[-1]).copy()
    edges = np.pad(is_part.reshape(flat.shape), ((0, 0), (1, 1))).astype(np.int8)
    rows, starts = np.nonzero(np.diff(edges, axis=1) == 1)
    stops = np.nonzero(np.diff(edges, axis=1) == -1)[1]
    numbers: dict[str, int] = {}
    seen: dict[tuple[int, ...], list[int]] = {}
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        ids = tuple(flat[row, start:stop].tolist())
        if ids not in seen:
            parts = texts_of_row(texts, ids).parts
            seen[ids] = [numbers.setdefault(part, len(vocabulary) + len(numbers)) for part in parts]
        flat[row, start:stop] = seen[ids]
    return flat.reshape(windows.shape), [*vocabulary, *numbers]


def _beside(name: str, text: str) -> str:
    # The character comes last: one that is written from right to left would turn the name around.
    return f"{name}{BESIDE}{text.strip() or text}"


def _whole(raw: Sequence[bytes]) -> list[tuple[int, int, str]]:
    """(first token, last + 1, text) of the pieces that parts of characters make up.

    A piece ends where a token and a character end together; bytes of no character are named.
    """
    data = b"".join(raw)
    texts, ends = [], []
    start = 0
    while start < len(data):
        size = _size_of_character(data, start)
        texts.append(data[start : start + size].decode("utf-8", NAMED_BYTES))
        start += size
        ends.append(start)
    found = []
    first = last = taken = at = 0
    for number, token in enumerate(raw, start=1):
        at += len(token)
        while last < len(ends) and ends[last] <= at:
            last += 1
        if (ends[last - 1] if last else 0) == at:
            found.append((first, number, "".join(texts[taken:last])))
            first, taken = number, last
    return found


def _size_of_character(data: bytes, start: int) -> int:
    """Bytes of the character that begins at `start`; 1 where none does."""
    for size in range(1, 5):
        try:
            data[start : start + size].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return min(size, len(data) - start)
    return 1
