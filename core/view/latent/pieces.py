"""Characters that several tokens make up together, put together again.

Byte-level tokenizers split what they do not know (emoji, other scripts) within characters; each of
the pieces alone decodes to a replacement mark.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_REPLACEMENT = "\ufffd"


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


def partial_bytes(
    tokenizer: Any, texts: Sequence[str], ids: Iterable[int] | None = None
) -> dict[int, bytes]:
    """Bytes of the tokens that are no whole characters: those whose text has a replacement mark.

    Args:
        tokenizer: a byte-level one (GPT-2's kind) or one with byte fallback (`<0xF0>`); of others
            there are none.
        texts: text of every token in `ids`.
        ids: the tokens; all of the vocabulary if None.
    """
    numbers = range(len(texts)) if ids is None else ids
    broken = [it for it, text in zip(numbers, texts, strict=True) if _REPLACEMENT in text]
    if not broken:
        return {}
    found, decoder = {}, _byte_decoder()
    for token_id, token in zip(broken, tokenizer.convert_ids_to_tokens(broken), strict=True):
        fallback = _FALLBACK.fullmatch(token or "")
        if fallback:
            found[token_id] = bytes([int(fallback[1], 16)])
        elif token and all(character in decoder for character in token):
            found[token_id] = bytes(decoder[character] for character in token)
    return found


def join_pieces(
    ids: Sequence[int],
    texts: Sequence[str],
    activations: Sequence[float],
    partial: Mapping[int, bytes],
    *,
    peak: int | None = None,
) -> Pieces:
    """The tokens with broken characters joined; what does not become whole stays marked."""
    out = Pieces([], [], [], None)
    found_peak, start = None, 0
    while start < len(ids):
        stop, text = start + 1, texts[start]
        if ids[start] in partial:
            stop, text = _whole(ids, partial, start)
        if peak is not None and start <= peak < stop:
            found_peak = len(out.texts)
        known = [it for it in activations[start:stop] if not math.isnan(it)]
        out.texts.append(text)
        out.activations.append(max(known, default=math.nan))
        out.n_tokens.append(stop - start)
        start = stop
    return Pieces(out.texts, out.activations, out.n_tokens, found_peak)


def _whole(ids: Sequence[int], partial: Mapping[int, bytes], start: int) -> tuple[int, str]:
    """Where the shortest run of partial tokens ends that is whole characters, and its text."""
    data = b""
    for stop in range(start, len(ids)):
        if ids[stop] not in partial:
            break
        data += partial[ids[stop]]
        try:
            return stop + 1, data.decode()
        except UnicodeDecodeError:
            continue
    return start + 1, partial[ids[start]].decode(errors="replace")


@cache
def _byte_decoder() -> dict[str, int]:
    """Which byte each character of a byte-level token stands for (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [it for it in range(256) if it not in plain]
    table = {chr(it): it for it in plain}
    return table | {chr(256 + number): it for number, it in enumerate(others)}
