"""A token as the bytes that it adds to a text, for every kind of tokenizer.

The tokenizer's own `decode` does not do: of single tokens, SentencePiece tokenizers drop the space
before a word, cleaning up drops others, and bytes that are no whole character all become the same
replacement mark. So the steps of its decoder are applied to the token's piece instead, without
those that only concern the edges of a text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_SIGNS = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
_CLEANED = {spaced: spaced.strip() for spaced in _SIGNS} | {" do not": " don't"}
"""What the decoder of WordPiece changes when it cleans up, one token at a time."""

Step = Mapping[str, Any]


class Reader(Protocol):
    """Turns pieces into the bytes that they stand for."""

    tidies: bool
    """Whether it takes spaces away from before signs, so that `alone` makes a difference."""

    def read(self, token_id: int, piece: Any, *, added: bool, alone: bool = False) -> bytes:
        """Bytes of a piece within a text; `added`: it was added beside the trained ones.

        With `alone`, what a decoder takes away from it before signs is kept, so that a sign that
        begins a word and one that continues it stay apart.
        """


def pieces_of(tokenizer: Any) -> dict[int, Any]:
    """The piece of each id that the tokenizer has, holes and added tokens included."""
    found = {int(token_id): piece for piece, token_id in tokenizer.get_vocab().items()}
    missing = [token_id for token_id in range(_length(tokenizer)) if token_id not in found]
    for token_id in missing:
        try:
            piece = tokenizer.convert_ids_to_tokens(token_id)
        except (AttributeError, IndexError, KeyError, ValueError, TypeError, OverflowError):
            continue
        if piece is not None:
            found[token_id] = piece
    return found


def reader_of(tokenizer: Any, pieces: Mapping[int, Any]) -> Reader:
    """How this tokenizer's pieces are read: by its decoder, or as its pieces look and behave."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    steps = _steps_by_behaviour(tokenizer, pieces) if fast is None else _steps(fast.decoder)
    if steps is not None and all(_is_known(step) for step in steps):
        return _Steps(steps)
    return _Probe(tokenizer, pieces)


def is_byte_piece(piece: Any) -> bool:
    """Whether a piece is the name of a byte, such as `<0x0A>`."""
    return isinstance(piece, str) and _BYTE.fullmatch(piece) is not None


def _length(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else 0


def _steps(decoder: Any) -> list[Step] | None:
    """A decoder's settings, step by step; None without one, or for one written in Python."""
    try:
        # Its JSON alone: that of the whole tokenizer holds the vocabulary.
        return _flat(json.loads(decoder.__getstate__()))
    except Exception:  # noqa: BLE001 (the library raises a bare one)
        return None


def _flat(step: Step) -> list[Step]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for part in step["decoders"] for inner in _flat(part)]


def _is_known(step: Step) -> bool:
    if step["type"] == "Replace":
        return "String" in step["pattern"]
    known = "ByteLevel Latin1 ByteFallback Metaspace WordPiece BPEDecoder Fuse Strip"
    return step["type"] in known.split()


def _steps_by_behaviour(tokenizer: Any, pieces: Mapping[int, Any]) -> list[Step] | None:
    """What a tokenizer written in Python does to its pieces; None for what is none of these."""
    if any(isinstance(piece, bytes) for piece in pieces.values()):
        return []
    if _joined(tokenizer, "Ġ") == " ":
        return [{"type": "ByteLevel"}]
    # ByT5's pieces are the characters of the numbers of their bytes.
    if _joined(tokenizer, "\xc3\xa9") == "é":
        return [{"type": "Latin1"}]
    # One character says nothing: where each is a token, those marks are as well.
    starts = [str(piece)[:2] for piece in pieces.values() if len(piece or "") > 1]
    counts = {
        "ByteLevel": sum(start[0] == "Ġ" for start in starts),
        "Metaspace": sum(start[0] == _SPACE for start in starts),
        "WordPiece": sum(start == "##" for start in starts),
    }
    kind = max(counts, key=counts.__getitem__)
    if not counts[kind]:
        return None
    if kind == "Metaspace":
        return [{"type": "Metaspace", "replacement": _SPACE}, {"type": "ByteFallback"}]
    return [{"type": kind, "prefix": "##"}]


def _joined(tokenizer: Any, pieces: Sequence[str]) -> str | None:
    try:
        return str(tokenizer.convert_tokens_to_string(list(pieces)))
    except (AttributeError, KeyError, ValueError, TypeError, RuntimeError):
        return None


class _Steps:
    """Reads pieces through the steps of a decoder, as if each stood within a text."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.tidies = any(step.get("cleanup") for step in steps)

    def read(self, token_id: int, piece: Any, *, added: bool, alone: bool = False) -> bytes:
        """As `Reader.read`."""
        if isinstance(piece, bytes):
            return piece
        text, is_fused = str(piece), False
        for step in self._steps:
            match step["type"]:
                # Added tokens are plain text there.
                case "ByteLevel" if not added:
                    table = _byte_alphabet()
                    with suppress(KeyError):
                        return bytes([table[character] for character in text])
                case "Latin1" if not added and len(text) == 1 and ord(text) < 256:
                    return bytes([ord(text)])
                case "ByteFallback":
                    byte = _BYTE.fullmatch(text)
                    if byte is not None:
                        return bytes([int(byte[1], 16)])
                case "Replace":
                    text = text.replace(step["pattern"]["String"], step["content"])
                case "Metaspace":
                    text = text.replace(step["replacement"], " ")
                case "WordPiece":
                    text = _word_piece(text, step["prefix"])
                    text = _cleaned(text) if step.get("cleanup") and not alone else text
                case "BPEDecoder":
                    text = text.replace(step["suffix"], " ")
                case "Fuse":
                    is_fused = True
                # What strips the whole text says nothing of a token within it.
                case "Strip" if not is_fused:
                    text = _stripped(text, step)
        return text.encode("utf-8", "surrogatepass")


def _word_piece(text: str, prefix: str) -> str:
    return text.removeprefix(prefix) if text.startswith(prefix) else f" {text}"


def _cleaned(text: str) -> str:
    for spaced, shown in _CLEANED.items():
        text = text.replace(spaced, shown)
    return text


def _stripped(text: str, step: Step) -> str:
    for _ in range(step["start"]):
        text = text.removeprefix(step["content"])
    for _ in range(step["stop"]):
        text = text.removesuffix(step["content"])
    return text


class _Probe:
    """Reads what a token adds to a text by decoding it behind another; for unusual tokenizers."""

    tidies = False

    def __init__(self, tokenizer: Any, pieces: Mapping[int, Any]) -> None:
        self._tokenizer = tokenizer
        self._anchor = next(
            (
                token_id
                for token_id, piece in pieces.items()
                if str(piece).isascii() and str(piece).isalpha()
            ),
            None,
        )
        self._before = "" if self._anchor is None else self._decode([self._anchor])

    def read(self, token_id: int, piece: Any, *, added: bool, alone: bool = False) -> bytes:
        """As `Reader.read`; the bytes of the piece itself where decoding it tells nothing."""
        if self._anchor is not None and self._before:
            text = self._decode([self._anchor, token_id])
            text = text.removeprefix(self._before) if text.startswith(self._before) else ""
        else:
            text = self._decode([token_id])
        if not text or "\ufffd" in text:
            text = str(piece)
        return text.encode("utf-8", "surrogatepass")

    def _decode(self, ids: list[int]) -> str:
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        try:
            return str(self._tokenizer.decode(ids, **options))
        except TypeError:
            return str(self._tokenizer.decode(ids))


@cache
def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level tokenizers (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    rest = (byte for byte in range(256) if byte not in set(plain))
    return table | {chr(256 + number): byte for number, byte in enumerate(rest)}
