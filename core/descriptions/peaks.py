"""The words around a latent's peaks, as numbers that can be counted.

Tokens are pieces of words; people read words. The peak's word is put together from the tokens
around it, and likewise the word before and the word after. Each spelling gets a number; `fold`
tells which spellings are one word.

A token whose text is "" has a part of the character before it (`core.tokens.whole_characters`): it
belongs to the token that has the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from core.descriptions.token_text import folded, is_wordy, opens_word, starts_word

NONE = -1
_MAX_PIECES = 8
"""Tokens of one word that are put together; longer words are cut there."""


@dataclass(frozen=True)
class PeakWords:
    """Words at and around every peak, as numbers into `texts`; -1 where there is none."""

    texts: list[str]
    """Each spelling, without the space before it."""
    fold: Int[np.ndarray, " n_texts"]
    """Number of the first spelling that differs from each in nothing but case."""
    at: Int[np.ndarray, "d_sae n_top"]
    """The word that the peak is in."""
    before: Int[np.ndarray, "d_sae n_top"]
    """The word before that one."""
    phrase: Int[np.ndarray, "d_sae n_top"]
    """The two words before it."""
    after: Int[np.ndarray, "d_sae n_top"]
    """The word after it."""
    token: Int[np.ndarray, "d_sae n_top"]
    """Token id at the peak itself; where it is a part of a character, that of the first part."""
    first: Bool[np.ndarray, "d_sae n_top"]
    """Whether the peak is on the first token of its word."""
    last: Bool[np.ndarray, "d_sae n_top"]
    """Whether it is on the last one."""


@dataclass(frozen=True)
class NearWords:
    """Words that begin in each window, as numbers into `texts`; -1 where none does."""

    texts: list[str]
    """Each spelling, without the space before it."""
    fold: Int[np.ndarray, " n_texts"]
    """Number of the first spelling that differs from each in nothing but case."""
    near: Int[np.ndarray, "d_sae n_top window"]
    """The word that begins at each place."""


def peak_words(
    windows: Int[np.ndarray, "d_sae n_top window"], vocabulary: Sequence[str], *, n_before: int
) -> PeakWords:
    """Read the words at and beside the peak, which is in column `n_before` of each window."""
    d_sae, n_top, width = windows.shape
    flat = windows.reshape(-1, width).astype(np.int32)
    joined = _joined(flat, vocabulary)
    head, tail = _character(flat, vocabulary, n_before)
    begin, end = _begin_of_word(joined, head), _end_of_word(joined, tail)
    before_end = begin - 1
    before_begin = _begin_of_word(joined, np.maximum(before_end, 0))
    phrase_begin = _begin_of_word(joined, np.maximum(before_begin - 1, 0))
    after_begin = end + 1
    after_end = _end_of_word(joined, np.minimum(after_begin, width - 1))
    spans = [
        _span(flat, begin, end),
        _span(flat, before_begin, before_end),
        _span(flat, phrase_begin, before_end),
        _span(flat, np.minimum(after_begin, width - 1), np.where(end < width - 1, after_end, NONE)),
    ]
    numbers, texts, fold = _number(np.concatenate(spans), vocabulary)
    at, before, phrase, after = numbers.reshape(4, d_sae, n_top)
    return PeakWords(
        texts=texts,
        fold=fold,
        at=at,
        before=before,
        phrase=phrase,
        after=after,
        token=flat[np.arange(len(flat)), head].reshape(d_sae, n_top),
        first=(begin == head).reshape(d_sae, n_top),
        last=(end == tail).reshape(d_sae, n_top),
    )


def near_words(
    windows: Int[np.ndarray, "d_sae n_top window"], vocabulary: Sequence[str]
) -> NearWords:
    """Read all words of the windows but those that the edges may have cut."""
    d_sae, n_top, width = windows.shape
    flat = windows.reshape(-1, width).astype(np.int32)
    joined = _joined(flat, vocabulary)
    spans = _words_of_windows(flat, joined).reshape(-1, _MAX_PIECES)
    numbers, texts, fold = _number(spans, vocabulary)
    near = numbers.reshape(-1, width)
    begun_before = np.append([starts_word(text) for text in vocabulary], True)[flat[:, 0]] == 0
    near[begun_before, 0] = NONE
    last_word = _begin_of_word(joined, np.full(len(flat), width - 1))
    near[np.arange(len(flat)), last_word] = NONE
    return NearWords(texts=texts, fold=fold, near=near.reshape(d_sae, n_top, width))


def _joined(
    flat: Int[np.ndarray, "rows window"], vocabulary: Sequence[str]
) -> Bool[np.ndarray, "rows window+1"]:
    """Whether the token in each column continues the word of the column before it."""
    # The last entries are for -1: neither part of a word nor the continuation of one.
    wordy = np.append([is_wordy(text) for text in vocabulary], False).astype(bool)
    starts = np.append([starts_word(text) for text in vocabulary], True).astype(bool)
    opens = np.append([opens_word(text) for text in vocabulary], False).astype(bool)
    joined = np.zeros((len(flat), flat.shape[1] + 1), dtype=bool)
    opens_at, continues = opens[flat], _continues(flat, vocabulary)
    if continues.any():
        for column in range(1, flat.shape[1]):
            here = continues[:, column]
            opens_at[here, column] = opens_at[here, column - 1]
    joined[:, 1:-1] = ~starts[flat[:, 1:]] & wordy[flat[:, 1:]] & opens_at[:, :-1]
    joined[:, 1:-1] |= continues[:, 1:]
    return joined


def _continues(
    flat: Int[np.ndarray, "rows window"], vocabulary: Sequence[str]
) -> Bool[np.ndarray, "rows window"]:
    """Whether the token in each column only has a part of the character before it."""
    return np.append([text == "" for text in vocabulary], False).astype(bool)[flat]


def _character(
    flat: Int[np.ndarray, "rows window"], vocabulary: Sequence[str], column: int
) -> tuple[np.ndarray, np.ndarray]:
    """First and last column of the tokens that make up the characters at `column`, for each row."""
    continues = _continues(flat, vocabulary)
    head, tail = (np.full(len(flat), column) for _ in range(2))
    rows, width = np.arange(len(flat)), flat.shape[1]
    for _ in range(column if continues.any() else 0):
        head -= continues[rows, head] & (head > 0)
    for _ in range(width - column - 1 if continues.any() else 0):
        after = np.minimum(tail + 1, width - 1)
        tail += continues[rows, after] & (after > tail)
    return head, tail


def _begin_of_word(joined: np.ndarray, column: np.ndarray) -> np.ndarray:
    """First column of the word that `column` is in, for each row."""
    rows, begin = np.arange(len(joined)), column.copy()
    for _ in range(_MAX_PIECES - 1):
        begin -= joined[rows, begin]
    return begin


def _end_of_word(joined: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Last column of the word that `column` is in, for each row."""
    rows, end = np.arange(len(joined)), column.copy()
    for _ in range(_MAX_PIECES - 1):
        end += joined[rows, end + 1]
    return end


def _span(flat: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Token ids from column `begin` to `end`, [rows, _MAX_PIECES], filled up with -1."""
    columns = begin[:, None] + np.arange(_MAX_PIECES)
    inside = columns <= end[:, None]
    ids = np.take_along_axis(flat, np.clip(columns, 0, flat.shape[1] - 1), axis=1)
    return np.where(inside, ids, NONE)


def _words_of_windows(flat: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """The word that begins in each column, [rows, window, _MAX_PIECES]; -1 where none does."""
    n_rows, width = flat.shape
    pieces = np.full((n_rows, width, _MAX_PIECES), NONE, dtype=np.int32)
    open_word = ~joined[:, :width] & (flat >= 0)
    for piece in range(_MAX_PIECES):
        if piece:
            open_word[:, width - piece :] = False
            open_word[:, : width - piece] &= joined[:, piece:width]
        pieces[:, : width - piece, piece] = np.where(
            open_word[:, : width - piece], flat[:, piece:], NONE
        )
    return pieces


def _number(
    spans: Int[np.ndarray, "n pieces"], vocabulary: Sequence[str]
) -> tuple[Int[np.ndarray, " n"], list[str], Int[np.ndarray, " n_texts"]]:
    """A number for each row of token ids; the spelling that it stands for; its word's number."""
    # A 64-bit hash of the row: sorting whole rows would take ten times as long.
    hashes = np.zeros(len(spans), dtype=np.uint64)
    for piece in range(spans.shape[1]):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + (spans[:, piece] + 1).astype(np.uint64)
    _, rows, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    numbers = np.full(len(rows), NONE, dtype=np.int64)
    by_text: dict[str, int] = {}
    for unique, row in enumerate(rows.tolist()):
        ids = spans[row].tolist()
        if ids[0] >= 0:
            text = "".join([vocabulary[i] for i in ids if i >= 0])
            numbers[unique] = by_text.setdefault(text.strip(" ") or text, len(by_text))
    by_fold: dict[str, int] = {}
    fold = [by_fold.setdefault(folded(text), number) for text, number in by_text.items()]
    return numbers[inverse], list(by_text), np.array(fold, dtype=np.int64)
