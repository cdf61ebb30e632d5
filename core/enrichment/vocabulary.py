"""Every token of a tokenizer as the text that it stands for, its leading space kept.

Decoding tokens one by one does not do: SentencePiece tokenizers then drop the space before a word,
and bytes that are no whole character become the same question mark.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "▁"


@dataclass(frozen=True, eq=False)
class TokenVocabulary:
    """What each output of a model stands for; arrays are by token id, `[d_vocab]`."""

    texts: tuple[str, ...]
    """Text of each token, a leading space included; "\\ufffd" for bytes that are no character."""
    special: Bool[np.ndarray, " d_vocab"]
    """Tokens that mark something and stand for no text, such as the beginning of a text."""
    partial: Bool[np.ndarray, " d_vocab"]
    """Tokens that hold a part of a character."""
    known: Bool[np.ndarray, " d_vocab"]
    """Ids that the tokenizer has; some models have more outputs, for no token."""

    def __len__(self) -> int:
        return len(self.texts)


def read_vocabulary(tokenizer: Any, d_vocab: int) -> TokenVocabulary:
    """Read a Hugging Face tokenizer: byte-level (`Ġ`), SentencePiece (`▁`, `<0x0A>`) or WordPiece.

    `d_vocab` is the number of the model's outputs. Raises ValueError without a tokenizer.
    """
    if tokenizer is None:
        raise ValueError("The model has no tokenizer, so its tokens have no texts.")
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(d_vocab, len(tokenizer)))))
    kind = _kind(tokenizer, pieces)
    ordinary = _added_tokens(tokenizer)
    special_ids = set(tokenizer.all_special_ids)
    texts, partial, known = [""] * d_vocab, np.zeros(d_vocab, bool), np.zeros(d_vocab, bool)
    special = np.zeros(d_vocab, bool)
    for token_id, piece in enumerate(pieces):
        if piece is None:
            continue
        known[token_id] = True
        special[token_id] = token_id in special_ids or bool(ordinary.get(token_id))
        if token_id in ordinary or token_id in special_ids:
            texts[token_id] = str(piece)
            continue
        raw = _bytes_of(str(piece), kind)
        texts[token_id] = raw.decode("utf-8", errors="replace")
        partial[token_id] = not _is_utf8(raw)
    return TokenVocabulary(tuple(texts), special, partial, known)


def _kind(tokenizer: Any, pieces: list[Any]) -> str:
    """ "bytes", "marked" (`▁`) or "wordpiece": as the tokenizer decodes, or its pieces look."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        decoder = json.dumps(json.loads(fast.to_str()).get("decoder"))
        for sign, kind in (
            ('"ByteLevel"', "bytes"),
            ('"WordPiece"', "wordpiece"),
            ('"Metaspace"', "marked"),
            (_SPACE_MARK, "marked"),
            ("\\u2581", "marked"),
        ):
            if sign in decoder:
                return kind
    starts = [str(piece)[:2] for piece in pieces if piece]
    counts = {
        "bytes": sum(start[0] == "Ġ" for start in starts),
        "marked": sum(start[0] == _SPACE_MARK for start in starts),
        "wordpiece": sum(start == "##" for start in starts),
    }
    return max(counts, key=counts.__getitem__)


def _added_tokens(tokenizer: Any) -> dict[int, bool]:
    """Tokens added beside the trained ones, whose pieces are plain: whether each is special."""
    decoder: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return {token_id: bool(token.special) for token_id, token in decoder.items()}


def _bytes_of(piece: str, kind: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    if byte is not None and kind != "bytes":
        return bytes([int(byte[1], 16)])
    if kind == "bytes":
        table = _byte_alphabet()
        if all(character in table for character in piece):
            return bytes(table[character] for character in piece)
        return piece.encode()
    if kind == "wordpiece":
        text = piece[2:] if piece.startswith("##") else f" {piece}"
        return text.encode()
    return piece.replace(_SPACE_MARK, " ").encode()


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@cache
def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level tokenizers (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    rest = (byte for byte in range(256) if byte not in set(plain))
    return table | {chr(256 + number): byte for number, byte in enumerate(rest)}
