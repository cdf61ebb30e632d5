"""What a point of the map says when the mouse is over it, cut so that the page stays small.

Texts are most of what a map weighs. All of them are cut to the same lengths, chosen as the first of
a list that fits, and the drawing says so: what is cut can still be read after a click.
"""

import html
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

PYTHON_STRING = re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'" + r'|"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
"""One token in a text like `"' a', ' b'"`, as `repr` writes it."""

_LINE = 72
# Characters of the description and number of tokens, from everything to nothing but the index.
_STEPS = (
    *((400, 10), (160, 10), (100, 10), (80, 10), (60, 10), (60, 9), (60, 8)),
    *((48, 8), (48, 6), (40, 6), (40, 5), (32, 5), (32, 4), (24, 4), (24, 3)),
    *((20, 3), (20, 2), (16, 2), (12, 1), (0, 1)),
    (0, 0),
)


@dataclass(frozen=True)
class HoverTexts:
    """Two texts for each point, and what was left out of them."""

    headings: Sequence[str]
    """Index of the latent and its description."""
    tokens: Sequence[str] | None
    """Boosted tokens between bars; None when there is room (or need) for none."""
    description_length: int | None
    """Characters to which descriptions were cut; None when all are whole."""
    n_tokens: int | None
    """Tokens that were kept of each latent; None when all are there."""


def hover_texts(
    latent_idx: Sequence[int],
    descriptions: Sequence[str] | None,
    token_strs: Sequence[str] | None,
    *,
    budget: int,
) -> HoverTexts:
    """Texts of at most `budget` bytes of JSON in all, as long as that allows.

    `token_strs` holds one text a latent, `"' a', ' b'"`: tokens as `repr` writes them. Where even
    the indices alone take more than the budget, they are given all the same. Texts that were asked
    for lately are given again: a page draws the same map at every click.
    """
    return _hover_texts(
        tuple(latent_idx),
        None if descriptions is None else tuple(descriptions),
        None if token_strs is None else tuple(token_strs),
        budget,
    )


@lru_cache(maxsize=4)
def _hover_texts(
    latent_idx: tuple[int, ...],
    descriptions: tuple[str, ...] | None,
    token_strs: tuple[str, ...] | None,
    budget: int,
) -> HoverTexts:
    whole = list(descriptions) if descriptions is not None else [""] * len(latent_idx)
    lists = [PYTHON_STRING.findall(text) for text in token_strs] if token_strs is not None else None
    longest = max(map(len, whole), default=0)
    most = max(map(len, lists), default=0) if lists is not None else 0
    rows = list(zip(latent_idx, whole, lists or [[]] * len(whole), strict=True))
    # A thousand rows tell about where to start, so that few steps are written out in full.
    sample = rows[:: max(1, len(rows) // 1000)]
    share = budget * len(sample) / max(1, len(rows))
    start = next((i for i, step in enumerate(_STEPS) if _size(_cut(sample, *step)) <= share), -1)
    for n_chars, n_tokens in _STEPS[start:]:
        headings, tokens = _cut(rows, n_chars, n_tokens)
        if _size((headings, tokens)) <= budget:
            break
    return HoverTexts(
        headings=tuple(headings),
        tokens=tuple(tokens) or None,
        description_length=n_chars if longest > n_chars else None,
        n_tokens=n_tokens if most > n_tokens else None,
    )


def as_label(text: str) -> str:
    """`text` on one line, for places where Plotly would read tags and entities in it."""
    return html.escape(" ".join(text.split()), quote=False)


def shortened(text: str, n_chars: int) -> str:
    """The first `n_chars` characters of `text` on one line, the last an ellipsis where cut."""
    line = " ".join(text.split())
    return line if len(line) <= n_chars else line[: n_chars - 1].rstrip() + "…"


def _cut(
    rows: Iterable[tuple[int, str, list[str]]], n_chars: int, n_tokens: int
) -> tuple[list[str], list[str]]:
    headings = [_heading(latent, description, n_chars) for latent, description, _ in rows]
    tokens = [_bars(literals[:n_tokens]) for *_, literals in rows] if n_tokens else []
    return headings, tokens if any(tokens) else []


def _size(texts: tuple[list[str], list[str]]) -> int:
    """Bytes in a figure's JSON, in which `<`, `>` and `&` are spelled like `\\u003c`."""
    written = "".join(json.dumps(text, separators=(",", ":")) for text in texts)
    return len(written) + 5 * sum(map(written.count, "<>&"))


def _heading(latent: int, description: str, n_chars: int) -> str:
    if not n_chars or not description:
        return str(latent)
    text = f"{latent}: {shortened(description, n_chars)}"
    lines = textwrap.wrap(text, _LINE) if len(text) > _LINE else [text]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _bars(literals: list[str]) -> str:
    # Without its quotes each token still shows its spaces, and line breaks stay escapes.
    return html.escape("|".join(literal[1:-1] for literal in literals), quote=False)
