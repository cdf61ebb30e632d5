"""Colours of the map and of the tree, on a light and on a dark page.

The cluster colours are Paul Tol's qualitative schemes "muted" (light page) and "light" (dark page),
which stay apart for colour-blind readers; his pale grey for "no data" marks noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.colors
import plotly.graph_objects as go

Colorscale = list[tuple[float, str]]
"""Colours at positions from 0 to 1, as Plotly takes them."""


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
