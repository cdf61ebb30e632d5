"""Examples as HTML: tokens shaded by activation, each with its value when pointed at.

Every piece that comes from a text goes through `_escaped`, which leaves no character that could
end an attribute or begin a tag, and makes what cannot be seen visible: control characters, marks
that turn the direction of writing around, halves of characters.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.tokens import join_parts
from core.view.markup import visible_character

_COLOR = "255, 140, 0"
_FAINTEST, _STRONGEST = 0.12, 0.88

STYLE = """<style>
.lx-row{display:flex;gap:.75rem;align-items:baseline;padding:.28rem 0;
 border-bottom:1px solid rgba(128,128,128,.18)}
.lx-val{flex:0 0 4.2rem;text-align:right;font-variant-numeric:tabular-nums;font-size:.86rem;
 opacity:.75}
.lx-text{flex:1 1 auto;min-width:0;overflow-wrap:anywhere;white-space:pre-wrap;line-height:1.65;
 font-size:.92rem}
.lx-src{flex:0 1 11rem;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;
 font-size:.76rem;opacity:.6}
.lx-t{position:relative;border-radius:2px}
.lx-t:hover{outline:1px solid rgba(128,128,128,.9)}
.lx-t:hover::after{content:attr(data-v);position:absolute;left:0;bottom:1.45em;z-index:9;
 padding:.05rem .4rem;border-radius:4px;background:#31333f;color:#fff;font-size:.78rem;
 line-height:1.4;white-space:nowrap;direction:ltr;pointer-events:none}
.lx-at{box-shadow:inset 0 -2px 0 rgb(255,140,0);font-weight:600}
.lx-gap{opacity:.45}
</style>"""
"""Look of the rows, to be put on the page once."""


@dataclass(frozen=True)
class ExampleRow:
    """One example."""

    tokens: Sequence[str]
    """Texts of its tokens, in order."""
    activations: Sequence[float]
    """Activation at each; NaN where it is not known."""
    n_tokens: Sequence[int] = ()
    """How many of the model's tokens each stands for; one each if empty."""
    peak: int | None = None
    """Which token the example is about."""
    value: str = ""
    """What stands in front."""
    source: str = ""
    """Where the text is from."""
    starts_inside: bool = False
    """Whether text in front was cut off."""
    ends_inside: bool = False
    """Whether text behind was cut off."""

    @classmethod
    def from_parts(
        cls,
        parts: Sequence[str],
        activations: Sequence[float],
        *,
        peak: int | None = None,
        **more: Any,
    ) -> "ExampleRow":
        """A row of tokens (`RowTexts.parts`) with those that make up characters as one piece.

        `peak` is the number of a token; `more` are other fields.
        """
        pieces = join_parts(parts, activations, peak=peak)
        row = cls(pieces.texts, pieces.activations, pieces.n_tokens, pieces.peak)
        return replace(row, **more)


def rows_html(rows: Sequence[ExampleRow], *, strongest: float, break_lines: bool = False) -> str:
    """HTML of the rows, safe whatever their texts hold.

    `strongest` is the activation that has the full shade. With `break_lines`, a line break in the
    text breaks the line; otherwise it is only marked.
    """
    return "".join(_row(row, strongest, break_lines) for row in rows)


def _row(row: ExampleRow, strongest: float, break_lines: bool) -> str:
    sizes = row.n_tokens or [1] * len(row.tokens)
    parts = zip(row.tokens, row.activations, sizes, strict=True)
    tokens = "".join(
        _token(text, value, strongest, at == row.peak, break_lines, n)
        for at, (text, value, n) in enumerate(parts)
    )
    gap = '<span class="lx-gap">…</span>'
    before, after = gap if row.starts_inside else "", gap if row.ends_inside else ""
    value = f'<div class="lx-val">{_escaped(row.value)}</div>' if row.value else ""
    source = _escaped(row.source)
    named = f'<div class="lx-src" title="{source}">{source}</div>' if source else ""
    text = f'<div class="lx-text" dir="auto">{before}{tokens}{after}</div>'
    return f'<div class="lx-row">{value}{text}{named}</div>'


def _token(
    text: str, value: float, strongest: float, is_peak: bool, break_lines: bool, n: int
) -> str:
    known = value == value  # NaN is the only value unlike itself
    share = value / strongest if known and strongest > 0 else 0.0
    style = ""
    if share > 0:
        alpha = _FAINTEST + (_STRONGEST - _FAINTEST) * min(1.0, share)
        style = f' style="background:rgba({_COLOR},{alpha:.2f})"'
    kind = "lx-t lx-at" if is_peak else "lx-t"
    hint = f"{value:.4g}" if known else "not read"
    if n > 1:
        hint += f" (strongest of {n} tokens)"
    after = "<br>" if break_lines and text.endswith("\n") else ""
    return f'<span class="{kind}"{style} data-v="{hint}">{_escaped(text)}</span>{after}'


def _escaped(text: str) -> str:
    """`text` as HTML that shows it and does nothing."""
    return html.escape("".join(map(visible_character, text)), quote=True)
