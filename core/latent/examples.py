"""Examples as rows of HTML: tokens shaded by activation, each with its value when pointed at.

Every piece that comes from a text goes through `_escaped`, which leaves no character that could
end an attribute or begin a tag, and makes what cannot be seen visible: control characters, marks
that turn the direction of writing around, halves of characters.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from core.tokens import join_parts, texts_of_row
from core.view.contrast import BLUE, ORANGE, token_css
from core.view.markup import visible_character

if TYPE_CHECKING:  # pages read the style and the rows of typed texts before these are there
    from sae_lens import SAE

    from core.activations.examples import Examples
    from core.activations.text_index import OpenIndex
    from core.latent.dashboard import Dashboard
    from core.lease import Lease
    from core.models.hooks import Model

RowActivations = Mapping[int, Float[np.ndarray, " context"]]
"""Activations of one latent at all places of some rows of the text."""

_ROWS_AT_FIRST = 16

STYLE = """<style>
.lx-row{display:flex;gap:.75rem;align-items:baseline;padding:.28rem 0;
 border-bottom:1px solid rgba(128,128,128,.18)}
.lx-val{flex:0 0 2.9rem;text-align:right;font-variant-numeric:tabular-nums;font-size:.86rem;
 opacity:.85}
.lx-text{flex:1 1 auto;min-width:0;overflow-wrap:anywhere;white-space:pre-wrap;line-height:1.65;
 font-size:.92rem}
.lx-src{flex:0 1 9rem;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;
 font-size:.76rem;opacity:.8}
.lx-open{background:none;border:0;padding:0;color:inherit;font-family:inherit;text-align:left;
 text-decoration:underline dotted;text-underline-offset:3px;cursor:pointer}
.lx-open:hover{text-decoration-style:solid}
:root:not(.lx-listens) .lx-open{pointer-events:none}
.lx-t{position:relative;border-radius:2px}
.lx-t:hover{outline:1px solid rgba(128,128,128,.9)}
.lx-t:hover::after{content:attr(data-v);position:absolute;left:0;bottom:1.45em;z-index:9;
 padding:.05rem .4rem;border-radius:4px;background:#31333f;color:#fff;font-size:.78rem;
 line-height:1.4;white-space:nowrap;direction:ltr;pointer-events:none}
.lx-at{box-shadow:inset 0 -2px 0 rgb(255,140,0);font-weight:600}
.lx-gap{opacity:.8}
@media (max-width:640px){.lx-row{flex-wrap:wrap;row-gap:0}.lx-val{flex-basis:2.4rem}
.lx-text{flex-basis:calc(100% - 3.4rem)}.lx-src{flex:1 0 100%;padding-left:3.15rem}}
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
    place: int | None = None
    """Where its token is in the text that was read."""

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


def example_rows(
    examples: "Examples", index: "OpenIndex", *, around: int, read: RowActivations | None = None
) -> list[ExampleRow]:
    """One row an example, with `around` tokens on either side.

    Beyond what the index keeps, activations are those in `read`, else unknown (NaN).
    """
    found, token_set = [], index.token_set
    kept = (examples.activations.shape[1] - 1) // 2 if len(examples.places) else 0
    for number, place in enumerate(examples.places.tolist()):
        row, position = divmod(place, token_set.context)
        ids, length = token_set.tokens[row], int(token_set.lengths[row])
        begin = token_set.leading(row) if position > 0 else 0
        low, high = max(begin, position - around), min(length, position + around + 1)
        values = np.full(token_set.context, np.nan, dtype=np.float32)
        if read is not None and row in read:
            values[:] = read[row]
        else:
            columns = np.arange(position - kept, position + kept + 1)
            inside = (columns >= 0) & (columns < token_set.context)
            values[columns[inside]] = examples.activations[number][inside]
        document = int(examples.documents[number])
        found.append(
            ExampleRow.from_parts(
                texts_of_row(index.vocabulary, ids[low:high].tolist()).parts,
                values[low:high].tolist(),
                peak=position - low,
                value=f"{examples.values[number]:.3g}",
                source=token_set.names[document] if 0 <= document < len(token_set.names) else "",
                starts_inside=low > begin,
                ends_inside=high < length,
                place=place,
            )
        )
    return found


def rows_of(dashboard: "Dashboard", context: int) -> list[int]:
    """Rows of the text that hold one of the dashboard's examples, ascending."""
    groups = [dashboard.examples.top, *(band.examples for band in dashboard.examples.bands)]
    return sorted({int(place) // context for group in groups for place in group.places})


def read_rows(
    lease: "Lease", index: "OpenIndex", rows: Sequence[int], latent: int
) -> dict[int, Float[np.ndarray, " context"]]:
    """Activations of a latent of the lease's first SAE at all places of these rows, run now."""
    from core.activations.examples import row_activations

    found: dict[int, np.ndarray] = {}

    def read(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        part = np.array(rows[first:last], dtype=np.int64)
        values = row_activations(model, saes[0], index.token_set, part, latent)
        found.update(zip(part.tolist(), values, strict=True))

    message = "Reading more of the texts"
    lease.in_turns(len(rows), read, unit="texts", message=message, step=_ROWS_AT_FIRST)
    return found


def effects_html(row: ExampleRow, *, least: float) -> str:
    """HTML of a row of effects that may have either sign: orange above 0, blue below.

    Effects smaller than `least` are not shaded.
    """
    known = [abs(value) for value in row.activations if value == value]
    return _row(row, max((*known, least)), break_lines=True, least=least)


def rows_html(
    rows: Sequence[ExampleRow],
    *,
    strongest: float,
    break_lines: bool = False,
    opens: bool = False,
) -> str:
    """HTML of the rows, safe whatever their texts hold.

    `strongest` is the activation that has the full shade. With `break_lines`, a line break in the
    text breaks the line; otherwise it is only marked. With `opens`, the name of the source of a row
    is a button with the row's place as `data-place`.
    """
    return "".join(_row(row, strongest, break_lines, opens=opens) for row in rows)


def _row(
    row: ExampleRow,
    strongest: float,
    break_lines: bool,
    least: float | None = None,
    *,
    opens: bool = False,
) -> str:
    sizes = row.n_tokens or [1] * len(row.tokens)
    parts = zip(row.tokens, row.activations, sizes, strict=True)
    tokens = "".join(
        _token(text, value, strongest, at == row.peak, break_lines, n, least)
        for at, (text, value, n) in enumerate(parts)
    )
    gap = '<span class="lx-gap">…</span>'
    before, after = gap if row.starts_inside else "", gap if row.ends_inside else ""
    value = f'<div class="lx-val">{_escaped(row.value)}</div>' if row.value else ""
    source = _escaped(row.source)
    named = f'<div class="lx-src" title="{source}">{source}</div>' if source else ""
    if opens and row.place is not None:
        title = f"Open the whole text: {source}" if source else "Open the whole text"
        named = (
            f'<button type="button" class="lx-src lx-open" data-place="{row.place}" '
            f'title="{title}">{source or "whole text"}</button>'
        )
    text = f'<div class="lx-text" dir="auto">{before}{tokens}{after}</div>'
    return f'<div class="lx-row">{value}{text}{named}</div>'


def _token(
    text: str,
    value: float,
    strongest: float,
    is_peak: bool,
    break_lines: bool,
    n: int,
    least: float | None,
) -> str:
    known = value == value  # NaN is the only value unlike itself
    share = value / strongest if known and strongest > 0 else 0.0
    style = ""
    if share > 0 if least is None else known and abs(value) >= least:
        colour = ORANGE if share > 0 else BLUE
        style = f' style="{token_css(abs(share), colour=colour)}"'
    kind = "lx-t lx-at" if is_peak else "lx-t"
    hint = f"{value:.4g}" if known else "not read"
    if n > 1:
        hint += f" (strongest of {n} tokens)"
    after = "<br>" if break_lines and text.endswith("\n") else ""
    return f'<span class="{kind}"{style} data-v="{hint}">{_escaped(text)}</span>{after}'


def _escaped(text: str) -> str:
    """`text` as HTML that shows it and does nothing."""
    return html.escape("".join(map(visible_character, text)), quote=True)
