"""A plot in a sentence or two, for those who do not see it: what is drawn, from where to where, and
where the most is.

Everything is read from the figure itself, so that words and picture cannot differ.
"""

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKUP = re.compile(r"<[^>]*>")
_MOST_PARTS = 6
_LONGEST = 90


def plot_words(figure: "go.Figure") -> str:
    """What the figure shows, as plain text of a few sentences."""
    axes = _axis(figure, "x"), _axis(figure, "y")
    parts = [words for trace in figure.data if (words := _trace(trace, figure, axes))]
    title = _plain(figure.layout.title.text)
    more = len(parts) - _MOST_PARTS
    if more > 0:
        parts = [*parts[:_MOST_PARTS], f"And {more:,} more."]
    return " ".join(filter(None, [f"{title.rstrip('.')}." if title else "", *parts]))


def _trace(trace: Any, figure: "go.Figure", axes: tuple[str, str]) -> str:
    kind = trace.type
    if trace.visible is False or trace.opacity == 0:
        return ""
    name = _plain(trace.name)
    named = f" “{name}”" if name else ""
    if kind == "heatmap":
        return _heatmap(trace, figure, axes)
    if kind == "bar":
        across = trace.orientation == "h"
        keys, sizes = (trace.y, trace.x) if across else (trace.x, trace.y)
        along, measured = axes[::-1] if across else axes
        return _bars(keys, sizes, figure, ("y" if across else "x"), along, measured, named)
    if kind in ("scatter", "scattergl"):
        if trace.hoverinfo == "skip" and not trace.name:
            return ""
        return _points(trace, axes, named)
    if kind == "histogram":
        values = _numbers(trace.x)
        return f"Histogram{named} of {len(values):,} values{_range(values)}." if len(values) else ""
    return ""


def _bars(
    keys: Any, sizes: Any, figure: "go.Figure", axis: str, along: str, measured: str, named: str
) -> str:
    heights = _numbers(sizes)
    if not len(heights) or np.isnan(heights).all():
        return ""
    best = int(np.nanargmax(np.abs(heights)))
    return (
        f"Bars{named}, {len(heights):,} of them, of {measured or 'amounts'} by "
        f"{along or 'kind'}: the largest is {_number(heights[best])} at "
        f"{_tick(figure, axis, list(keys)[best])}."
    )


def _points(trace: Any, axes: tuple[str, str], named: str) -> str:
    x, y = _numbers(trace.x), _numbers(trace.y)
    n = int((~np.isnan(y)).sum())
    if not n:
        return ""
    what = "Line" if trace.mode and "markers" not in trace.mode else "Points"
    ends = []
    for name, values in zip(axes, (x, y), strict=True):
        # An axis without a name, as that of a map, has no numbers that mean anything.
        if name and not np.isnan(values).all():
            ends.append(f"{name}{_range(values)}")
    where = f": {', '.join(ends)}" if ends else ""
    return f"{what}{named}, {n:,} places{where}."


def _heatmap(trace: Any, figure: "go.Figure", axes: tuple[str, str]) -> str:
    values = np.array(
        [[np.nan if it is None else float(it) for it in row] for row in trace.z], dtype=np.float64
    )
    if not values.size or np.isnan(values).all():
        return ""
    row, column = np.unravel_index(int(np.nanargmax(np.abs(values))), values.shape)
    x = trace.x[column] if trace.x is not None else int(column)
    y = trace.y[row] if trace.y is not None else int(row)
    of = _plain(trace.colorbar.title.text) or "values"
    return (
        f"Heatmap of {of}, {values.shape[0]:,} rows ({axes[1] or 'y'}) by {values.shape[1]:,} "
        f"columns ({axes[0] or 'x'}){_range(values)}; the strongest is "
        f"{_number(values[row, column])}, in row {_tick(figure, 'y', y)}, column "
        f"{_tick(figure, 'x', x)}."
    )


def _axis(figure: "go.Figure", name: str) -> str:
    return _plain(getattr(figure.layout, f"{name}axis").title.text)


def _tick(figure: "go.Figure", axis: str, value: Any) -> str:
    """What stands at the place on the axis, or its number."""
    drawn = getattr(figure.layout, f"{axis}axis")
    if drawn.tickvals is not None and drawn.ticktext is not None:
        named = dict(zip(list(drawn.tickvals), drawn.ticktext, strict=False))
        if value in named:
            return f"“{_plain(named[value])}”"
        places = [it for it in named if isinstance(it, int | float)]
        if places and isinstance(value, int | float | np.number):
            near = min(places, key=lambda it: abs(it - float(value)))
            return f"about {_plain(named[near])}"
    if isinstance(value, int | float | np.number):
        return _number(float(value))
    return f"“{_plain(value)}”"


def _range(values: np.ndarray) -> str:
    return f" from {_number(float(np.nanmin(values)))} to {_number(float(np.nanmax(values)))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _numbers(values: Any) -> np.ndarray:
    """Numbers of a trace; what is not one is NaN."""
    array = np.asarray([] if values is None else values)
    if array.dtype.kind in "buif":
        return array.astype(np.float64)
    found: Sequence[Any] = list(array)
    return np.array(
        [float(it) if isinstance(it, int | float | np.number) else np.nan for it in found],
        dtype=np.float64,
    )


def _plain(text: Any) -> str:
    """Text without Plotly's markup, on one line, not too long."""
    if text is None:
        return ""
    words = " ".join(html.unescape(_MARKUP.sub(" ", str(text))).split())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
