"""Colours of the map and of the tree, on a light and on a dark page, and of each point.

The cluster colours are Paul Tol's qualitative schemes "muted" (light page) and "light" (dark page),
which stay apart for colour-blind readers; his pale grey for "no data" marks noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from jaxtyping import Float, Int

from core.splitting.hover import as_label

Colorscale = list[tuple[float, str]]
"""Colours at positions from 0 to 1, as Plotly takes them."""
_ITSELF = 1 - 1e-5
"""Cosine from which on a latent counts as the chosen one itself."""
_MISSING_BAND = 0.04
_TITLES = {
    "frequency": "share of tokens<br>it fires on",
    "similarity": "cosine similarity",
    "output": "output score<br>at equal KL",
    "input": "input score",
}


@dataclass(frozen=True)
class Palette:
    """Everything that differs between a light and a dark page."""

    paper: str
    """Behind the figure: that of the page, so that a saved image has it too."""
    panel: str
    """Behind labels, boxes and hover texts."""
    text: str
    """Letters."""
    faint: str
    """Outlines, links and less important letters."""
    narrowest: str
    """Points of the narrowest SAE."""
    widths: tuple[str, str]
    """Greens of the second narrowest and of the widest SAE."""
    missing: str
    """Points without a value, and noise."""
    clusters: tuple[str, ...]
    """Cluster colours, used in turn."""
    sequential: tuple[str, ...]
    """From low to high values."""
    rings: tuple[str, ...]
    """Rings around highlighted points, one for each group."""
    selected: str
    """The ring around the chosen latent."""


LIGHT = Palette(
    paper="#ffffff",
    panel="#ffffff",
    text="#2f2d2b",
    faint="#9aa0a8",
    narrowest="#6f747b",
    widths=("rgb(0,105,40)", "rgb(144,218,144)"),
    missing="#e2e2e2",
    clusters=(
        *("#332288", "#88ccee", "#44aa99", "#117733", "#999933"),
        *("#ddcc77", "#cc6677", "#882255", "#aa4499"),
    ),
    sequential=("#c3d3d9", *plotly.colors.sequential.YlGnBu[4:]),
    rings=("#d95f02", "#0072b2", "#cc3399", "#5e3c99"),
    selected="#000000",
)

DARK = Palette(
    paper="#171614",
    panel="#21201d",
    text="#edebe8",
    faint="#77736c",
    narrowest="#c3c7cd",
    widths=("rgb(150,235,150)", "rgb(20,105,55)"),
    missing="#45423d",
    clusters=(
        *("#77aadd", "#99ddff", "#44bb99", "#bbcc33", "#aaaa00"),
        *("#eedd88", "#ee8866", "#ffaabb"),
    ),
    sequential=tuple(plotly.colors.sequential.Viridis[2:]),
    rings=("#ff9d3d", "#56b4e9", "#ff77cc", "#b9a3ff"),
    selected="#ffffff",
)


def palette(*, dark: bool) -> Palette:
    """The palette of a light or a dark page."""
    return DARK if dark else LIGHT


def width_colors(n: int, colors: Palette) -> list[str]:
    """One colour for each of `n` SAEs, narrowest first: grey, then greens."""
    if n <= 2:
        return [colors.narrowest, colors.widths[0]][:n]
    greens = plotly.colors.n_colors(*colors.widths, n - 1, colortype="rgb")
    return [colors.narrowest, *greens]


def bands(colors: Sequence[str]) -> Colorscale:
    """A scale of equal bands: a value of `i` + 0.5 on a range of 0 to `len(colors)` is band `i`."""
    n = len(colors)
    return [(edge / n, color) for i, color in enumerate(colors) for edge in (i, i + 1)]


def with_missing(colors: Palette, share: float) -> Colorscale:
    """The sequential scale above a band for missing values, as high as `share` of the range."""
    steps = len(colors.sequential) - 1
    above = [(share + (1 - share) * i / steps, color) for i, color in enumerate(colors.sequential)]
    if share == 0:
        return above
    return [(0.0, colors.missing), (share, colors.missing), *above]


def base_layout(colors: Palette, *, height: int) -> go.Layout:
    """Background, letters and hover texts that both figures share."""
    return go.Layout(
        template="none",
        height=height,
        autosize=True,
        paper_bgcolor=colors.paper,
        plot_bgcolor=colors.paper,
        font={"family": "Source Sans, sans-serif", "size": 13, "color": colors.text},
        hovermode="closest",
        hoverlabel={
            "align": "left",
            "bgcolor": colors.panel,
            "bordercolor": colors.faint,
            "font": {"color": colors.text, "size": 12},
            "namelength": -1,
        },
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )


@dataclass(frozen=True)
class PointColors:
    """How points are coloured."""

    n_points: int
    """How many there are."""
    values: Float[np.ndarray, " n"] | None = None
    """What the colour axis shows of each, float32; None where colours are those of the SAEs."""
    axis: dict[str, object] | None = None
    """Plotly's colour axis for the values."""
    notes: tuple[str, ...] = ()
    """What a reader should know about the colours."""

    def drawing_order(self) -> Int[np.ndarray, " n"]:
        """Row numbers in the order in which to draw: high values last, so that they lie on top."""
        if self.values is None:
            return np.arange(self.n_points)
        return np.argsort(self.values, kind="stable")


def point_colors(
    points: pd.DataFrame,
    colour: str,
    values: pd.Series | np.ndarray | None,
    colors: Palette,
) -> PointColors:
    """Colours for `points`, as `map_figure` describes `colour` and `values`.

    Raises:
        ValueError: no value, or not one for each point.
    """
    if colour == "width":
        return PointColors(len(points))
    if colour == "cluster":
        return _by_cluster(points["cluster"].to_numpy(), colors)
    if values is None or len(values) != len(points):
        raise ValueError(
            f"To colour by {colour}, give a value for each of the {len(points)} points "
            f"(NaN where it is not known), not {'none' if values is None else len(values)}."
        )
    numbers = np.asarray(values, dtype=np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if colour == "frequency":
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = np.where(numbers > 0, np.log10(numbers), np.nan)
    return _by_value(numbers, colour, colors)


def _by_cluster(clusters: np.ndarray, colors: Palette) -> PointColors:
    n = len(colors.clusters)
    # Noise is the first band; neighbouring clusters have neighbouring numbers, so turns do well.
    band = np.where(clusters < 0, 0, clusters % n + 1).astype(np.float32) + 0.5
    axis = {
        "cmin": 0,
        "cmax": n + 1,
        "colorscale": bands((colors.missing, *colors.clusters)),
        "showscale": False,
    }
    n_clusters = len(np.unique(clusters[clusters >= 0]))
    notes = [
        f"{n_clusters:,} clusters; {np.mean(clusters < 0):.0%} of the points are noise (grey)."
    ]
    if n_clusters > n:
        notes.append(f"{n} colours take turns, so two clusters far apart may share one.")
    return PointColors(len(clusters), band, axis, tuple(notes))


def _by_value(numbers: Float[np.ndarray, " n"], colour: str, colors: Palette) -> PointColors:
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if colour == "similarity":
        low = min(0.0, low)
        # The chosen latent is as similar to itself as can be; the scale is for the others,
        # and Plotly gives what lies beyond it the colour of its end.
        others = known[known < _ITSELF]
        high = float(others.max()) if len(others) else high
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    n_missing = len(numbers) - len(known)
    band = _MISSING_BAND if n_missing else 0.0
    # The band for missing values lies below the lowest known one, on the same axis.
    bottom = low - (high - low) * band / (1 - band)
    ticks = _ticks(low, high, colour)
    ticks_at, ticks_text = list(ticks), list(ticks.values())
    if n_missing:
        ticks_at.insert(0, (bottom + low) / 2)
        ticks_text.insert(0, "never" if colour == "frequency" else "not known")
    axis = {
        "cmin": bottom,
        "cmax": high,
        "colorscale": with_missing(colors, band),
        "colorbar": {
            "title": {"text": f"{_TITLES.get(colour, as_label(colour))}<br> ", "side": "top"},
            "thickness": 14,
            # Below the mode bar, which stands upright in the corner above.
            "len": 0.55,
            "y": 0.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "tickvals": ticks_at,
            "ticktext": ticks_text,
        },
    }
    values = np.where(np.isnan(numbers), bottom, numbers).astype(np.float32)
    notes = []
    if n_missing:
        score = f"no {colour} score" if colour in ("output", "input") else f"no {colour}"
        reason = "no measured firing" if colour == "frequency" else score
        notes.append(f"{n_missing:,} of {len(numbers):,} points have {reason} (grey).")
    return PointColors(len(numbers), values, axis, tuple(notes))


def _ticks(low: float, high: float, colour: str) -> dict[float, str]:
    """Some five positions on the scale, with what to write there."""
    if colour == "frequency":
        powers = np.arange(np.ceil(low), np.floor(high) + 1)
        if len(powers) < 2:
            powers = np.linspace(low, high, 3)
        return {float(power): f"{10**power:.3g}" for power in powers}
    return {float(value): f"{value:.3g}" for value in np.linspace(low, high, 5)}
