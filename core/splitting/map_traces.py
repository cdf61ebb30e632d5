"""The traces of the map: the points of one SAE, and the rings around some points."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int, Shaped

from core.splitting.colors import Palette, PointColors, width_colors
from core.splitting.hover import HoverTexts, as_label


def points_trace(
    points: pd.DataFrame,
    rows: Int[np.ndarray, " k"],
    name: str,
    rank: int,
    n_saes: int,
    coloring: PointColors,
    texts: HoverTexts,
    colors: Palette,
) -> go.Scattergl:
    marker: dict[str, object] = {
        "size": _marker_size(rank, n_saes, len(points)),
        "opacity": 0.85 if rank == 0 and n_saes > 1 else 0.75,
        "line": {"width": 0},
    }
    if coloring.values is None:
        marker["color"] = width_colors(n_saes, colors)[rank]
    else:
        marker |= {"color": coloring.values[rows], "coloraxis": "coloraxis"}
    tokens = "<br>%{text}" if texts.tokens else ""
    return go.Scattergl(
        **_position(points, rows),
        mode="markers",
        name=name,
        marker=marker,
        hovertext=_pick(texts.headings, rows),
        text=_pick(texts.tokens, rows) if texts.tokens else None,
        hovertemplate=f"<b>{name}</b> · latent %{{hovertext}}{tokens}<extra></extra>",
        # A click or a lasso fades the rest a little, not away.
        unselected={"marker": {"opacity": 0.3}},
    )


def legend_entry(trace: go.Scattergl, colors: Palette) -> go.Scattergl:
    """An entry without points: Plotly cannot draw one for a trace whose colours are numbers."""
    trace.update(showlegend=False, legendgroup=trace.name)
    return go.Scattergl(
        x=[None],
        y=[None],
        mode="markers",
        name=trace.name,
        legendgroup=trace.name,
        marker={"color": colors.faint},
        hoverinfo="skip",
    )


def _pick(texts: Sequence[str], rows: Int[np.ndarray, " k"]) -> np.ndarray:
    # Plotly checks an array of objects several times faster than a list.
    return np.array([texts[row] for row in rows.tolist()], dtype=object)


def ring_trace(
    points: pd.DataFrame,
    rows: Int[np.ndarray, " k"],
    name: str,
    color: str,
    size: float,
    width: float,
) -> go.Scattergl:
    # Without hover of its own, the point inside can still be read and clicked.
    return go.Scattergl(
        **_position(points, rows),
        mode="markers",
        name=as_label(name),
        hoverinfo="skip",
        marker={
            "symbol": "circle-open",
            "size": size,
            "color": color,
            "line": {"width": width, "color": color},
        },
        unselected={"marker": {"opacity": 1}},
    )


def ring_size(n_rings: int) -> tuple[float, float]:
    """Diameter and line in pixels: many rings are small and thin, so that points show in them."""
    share = float(np.interp(np.log10(max(n_rings, 1)), [1.5, 3], [0, 1]))
    return round(12 - 4.5 * share, 2), round(2 - share, 2)


def _position(
    points: pd.DataFrame, rows: Int[np.ndarray, " k"]
) -> dict[str, Shaped[np.ndarray, " k"]]:
    return {
        "x": points["umap_x"].to_numpy(dtype=np.float32)[rows],
        "y": points["umap_y"].to_numpy(dtype=np.float32)[rows],
        "customdata": rows.astype(np.int16 if len(points) < 2**15 else np.int32),
    }


def _marker_size(rank: int, n_saes: int, n_points: int) -> float:
    """Pixels: the narrowest SAE largest, all smaller where there are many points."""
    smallest = float(np.interp(np.log10(max(n_points, 1)), [3, 5], [6, 2.5]))
    if n_saes == 1:
        return smallest + 1
    return round(smallest + 4 * (n_saes - 1 - rank) / (n_saes - 1), 2)
