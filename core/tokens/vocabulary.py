"""Every token of a tokenizer as text, read once."""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int, Shaped

from core.tokens.pieces import is_byte_piece, pieces_of, reader_of

NAMED_BYTES = "named-bytes"
"""Way of decoding in which a byte that is part of no character is written as `<0xE2>`."""


def _name_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(f"<0x{byte:02X}>" for byte in bad), error.end


codecs.register_error(NAMED_BYTES, _name_bytes)


@dataclass(frozen=True, eq=False)
class TokenTexts:
    """The tokens of a model as text; everything is by token id, `[n]`."""

    texts: tuple[str, ...]
    """Each token on its own, no two alike: its leading space is kept, line breaks are as they are,
    bytes that are no whole character are named (`<0xE2>`), special tokens go by their name, and ids
    that the tokenizer does not have are `<50300>`. Where two tokens stand for the same text, the
    one that is a byte is named as such, and others have their id behind it."""
    raw: tuple[bytes, ...]
    """What each adds to a text, in UTF-8. The bytes of a row of tokens are its text."""
    special: Bool[np.ndarray, " n"]
    """Tokens that mark something and stand for no text, such as the beginning of a text."""
    partial: Bool[np.ndarray, " n"]
    """Tokens that hold a part of a character."""
    known: Bool[np.ndarray, " n"]
    """Ids that the tokenizer has; some models have more outputs, for no token."""
    told_apart: Mapping[int, str] = field(default_factory=dict)
    """What those would be called that were named otherwise because another has the same text."""
    numbered: bool = False
    """Whether there is no tokenizer, so that the number of a token is its text."""

    def __len__(self) -> int:
        return len(self.texts)

    def text(self, token_id: int) -> str:
        """`texts` of any id, one beyond the vocabulary included."""
        if 0 <= token_id < len(self.texts):
            return self.texts[token_id]
        return str(token_id) if self.numbered else f"<{token_id}>"

    def plain(self, token_id: int) -> str:
        """`text`, but the same for tokens that stand for the same text: for what reads words."""
        return self.told_apart.get(token_id) or self.text(token_id)

    def bytes_of(self, token_id: int) -> bytes:
        """`raw` of any id; the name of one that adds nothing to a text, or is unknown."""
        raw = self.raw[token_id] if 0 <= token_id < len(self.raw) else b""
        return raw or self.text(token_id).encode("utf-8", "surrogatepass")

    def within(self, token_id: int) -> str:
        """What a token reads like within a text, where it has its whole characters."""
        return self.bytes_of(token_id).decode("utf-8", NAMED_BYTES)

    def is_partial(self, token_id: int) -> bool:
        """`partial` of any id."""
        return 0 <= token_id < len(self.texts) and bool(self.partial[token_id])

    @cached_property
    def array(self) -> Shaped[np.ndarray, " n"]:
        """`texts` as an array of objects, to be indexed by ids."""
        return np.array([*self.texts, None], dtype=object)[:-1]

    @cached_property
    def _quoted(self) -> Shaped[np.ndarray, " n"]:
        return np.array([*map(repr, self.texts), None], dtype=object)[:-1]

    def lists(self, ids: Int[np.ndarray, "rows k"]) -> list[list[str]]:
        """The texts of each row of ids, every token on its own."""
        found: list[list[str]] = self.array[ids].tolist()
        return found

    def quoted(self, ids: Int[np.ndarray, "rows k"]) -> list[str]:
        """Each row of ids as one text: `"' a', '\\n'"`, the tokens as Python writes them."""
        return [", ".join(row) for row in self._quoted[ids].tolist()]


_read: "WeakKeyDictionary[Any, tuple[object, dict[int, TokenTexts]]]" = WeakKeyDictionary()


def token_texts(tokenizer: Any, n: int | None = None) -> TokenTexts:
    """The texts of a Hugging Face tokenizer's tokens, read the first time it is asked for.

    `n` is the number of the model's outputs; by default as many as the tokenizer has ids. Without
    a tokenizer (None), the number of each token is its text.
    """
    if tokenizer is None:
        texts = tuple(map(str, range(n or 0)))
        raw, no = tuple(text.encode() for text in texts), np.zeros(len(texts), dtype=bool)
        return TokenTexts(texts, raw, no, no, no, numbered=True)
    state = _state(tokenizer)
    try:
        kept = _read.get(tokenizer)
    except TypeError:  # it cannot be a key
        return _cut(_read_all(tokenizer), n)
    if kept is None or kept[0] != state:
        # Tokens may have been added since.
        kept = (state, {-1: _read_all(tokenizer)})
        _read[tokenizer] = kept
    size = -1 if n is None else n
    if size not in kept[1]:
        kept[1][size] = _cut(kept[1][-1], n)
    return kept[1][size]


def token_text(tokenizer: Any, token_id: int) -> str:
    """One token on its own, as in `TokenTexts.texts`; its number without a tokenizer (None)."""
    return token_texts(tokenizer).text(int(token_id))


def vocabulary_texts(model: Any) -> TokenTexts:
    """The texts of all outputs of a model; the model is not kept.

    Raises ValueError for a model without a tokenizer.
    """
    if model.tokenizer is None:
        raise ValueError("The model has no tokenizer, so its tokens have no texts.")
    return token_texts(model.tokenizer, int(model.W_U.shape[1]))


def _state(tokenizer: Any) -> object:
    size = len(tokenizer) if hasattr(tokenizer, "__len__") else 0
    return size, tuple(_special_ids(tokenizer))


def _special_ids(tokenizer: Any) -> Sequence[int]:
    return [
        int(special) for special in getattr(tokenizer, "all_special_ids", ()) if special is not None
    ]


def _cut(whole: TokenTexts, n: int | None) -> TokenTexts:
    """The same for `n` ids."""
    if n is None or n == len(whole):
        return whole
    more = range(len(whole), n)
    pad = (0, max(0, n - len(whole)))
    return TokenTexts(
        texts=(
            *whole.texts[:n],
            *_different([f"<{number}>" for number in more], more, set(whole.texts)),
        ),
        raw=(*whole.raw[:n], *(b"" for _ in more)),
        special=np.pad(whole.special[:n], pad),
        partial=np.pad(whole.partial[:n], pad),
        known=np.pad(whole.known[:n], pad),
        told_apart=whole.told_apart,
    )


def _read_all(tokenizer: Any) -> TokenTexts:
    pieces = pieces_of(tokenizer)
    reader = reader_of(tokenizer, pieces)
    n = max(pieces, default=-1) + 1
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    special_ids = {*_special_ids(tokenizer)} | {
        number for number, token in added.items() if token.special
    }
    special, partial, known = (np.zeros(n, dtype=bool) for _ in range(3))
    own, raw = [f"<{token_id}>" for token_id in range(n)], [b""] * n
    ranks = np.full(n, 4)
    for token_id, piece in pieces.items():
        known[token_id] = True
        if token_id in special_ids:
            special[token_id], ranks[token_id] = True, 0
            own[token_id] = str(piece)
            raw[token_id] = reader.read(token_id, piece, added=True)
            continue
        is_added = token_id in added
        raw[token_id] = data = reader.read(token_id, piece, added=is_added)
        if reader.tidies:
            data = reader.read(token_id, piece, added=is_added, alone=True)
        try:
            own[token_id] = data.decode("utf-8") or str(piece)
        except UnicodeDecodeError:
            partial[token_id] = True
            own[token_id] = data.decode("utf-8", NAMED_BYTES)
        is_byte = len(raw[token_id]) == 1 and is_byte_piece(piece)
        ranks[token_id] = 3 if is_byte or partial[token_id] else 2 if is_added else 1
    order = np.argsort(ranks, kind="stable").tolist()
    names = _different([own[token] for token in order], order, set(), raw=raw, pieces=pieces)
    texts = dict(zip(order, names, strict=True))
    told_apart = {token: own[token] for token in range(n) if own[token] != texts[token]}
    every = tuple(texts[token] for token in range(n))
    return TokenTexts(every, tuple(raw), special, partial, known, told_apart)


def _different(
    texts: Iterable[str],
    ids: Iterable[int],
    taken: set[str],
    *,
    raw: Sequence[bytes] = (),
    pieces: Any = None,
) -> list[str]:
    """The texts, later ones that are taken already told apart: bytes by name, others by id."""
    found = []
    for text, token_id in zip(texts, ids, strict=True):
        shown = text
        if shown in taken and pieces is not None and is_byte_piece(pieces.get(token_id)):
            shown = "".join(f"<0x{byte:02X}>" for byte in raw[token_id])
        while shown in taken:
            shown = f"{shown}<{token_id}>"
        taken.add(shown)
        found.append(shown)
    return found
