"""The map as a Plotly figure: one trace for each SAE, light enough for 100,000 points.

Coordinates, colours and row numbers travel as binary arrays; texts are cut to a budget. Points are
told apart by `customdata`, the row of `points` that each one is, so any order of drawing will do.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.splitting.colors import Palette, PointColors, base_layout, palette, point_colors
from core.splitting.hover import HoverTexts, as_label, hover_texts
from core.splitting.map_traces import legend_entry, points_trace, ring_size, ring_trace
from core.splitting.visible import View, checked_rows, labels_without_overlap, view_around

MEGABYTE = 1_000_000
SMALL_MAP, SMALL_MAP_BYTES, LARGE_MAP_BYTES = 20_000, 3 * MEGABYTE, 8 * MEGABYTE
"""Up to this many points a figure weighs at most the first figure, above it the second."""
# Marks of the figure's own: axes, legend, labels, rings.
_FRAME_BYTES = 60_000


@dataclass(frozen=True)
class MapDrawing:
    """A figure, and what its reader should know about it."""

    figure: go.Figure
    """The map."""
    notes: tuple[str, ...]
    """A sentence for everything that is not shown in full."""


def map_figure(
    points: pd.DataFrame,
    *,
    colour: str = "width",
    values: pd.Series | np.ndarray | None = None,
    highlight: Mapping[str, Sequence[int]] | Sequence[int] = (),
    labels: pd.DataFrame | None = None,
    selected: int | None = None,
    descriptions: Sequence[str] | pd.Series | None = None,
    tokens: Sequence[str] | pd.Series | None = None,
    view: View | None = None,
    dark: bool = False,
    height: int = 720,
    revision: Hashable = "map",
    max_bytes: int | None = None,
) -> MapDrawing:
    """The map of `points`, widest SAE at the back.

    Args:
        points: one row a latent: `sae` (label), `sae_width`, `latent_idx`, `umap_x`, `umap_y`; and
            `cluster` (-1: noise) if coloured by it. Row `i`, counted from 0 whatever the index
            says, has `customdata` `i`.
        colour: `width`, `cluster`, `frequency` (share of tokens, on a log scale), `similarity`
            (cosine, from 0 up), or any other name, which becomes the title of a linear scale.
        values: a number for each row where `colour` needs it; NaN where it is not known.
        highlight: rows to draw a ring around, in one group or in several named ones.
        labels: names to write on the map, most important first: `x`, `y`, `text`. A name that
            would cover an earlier one is left out.
        selected: the row of the chosen latent.
        descriptions: a text for each row; default: the column `description`, if there is one.
        tokens: boosted tokens of each row as `"' a', ' b'"`; default: column `top_token_strs`.
        view: what to show at first; default: everything.
        dark: for a dark page.
        height: in pixels.
        revision: as long as it and `view` stay the same, the reader's zoom survives redrawing.
        max_bytes: how large the figure's JSON may get; by default 3 MB up to 20,000 points and
            8 MB above. Hover texts are cut until it fits, and a note says so.

    Raises:
        ValueError: columns, values or rows that do not fit the points, or an empty view.
    """
    _check(points, colour, view)
    if descriptions is None and "description" in points:
        descriptions = points["description"]
    if tokens is None and "top_token_strs" in points:
        tokens = points["top_token_strs"]
    colors = palette(dark=dark)
    saes = narrowest_first(points)
    coloring = point_colors(points, colour, values, colors)
    n_coordinates = 3 if coloring.values is None else 4
    limit = max_bytes or (SMALL_MAP_BYTES if len(points) <= SMALL_MAP else LARGE_MAP_BYTES)
    texts = hover_texts(
        points["latent_idx"].tolist(),
        _texts(descriptions, len(points), "descriptions"),
        _texts(tokens, len(points), "tokens"),
        budget=limit - _FRAME_BYTES - len(points) * n_coordinates * 16 // 3,
    )
    groups = highlight if isinstance(highlight, Mapping) else {"search hits": highlight}
    figure = go.Figure(layout=_layout(colors, height, view, revision, coloring))
    order = coloring.drawing_order()
    label_of = points["sae"].to_numpy()
    for rank, (label, name) in reversed(list(enumerate(saes.items()))):
        rows = order[label_of[order] == label]
        trace = points_trace(points, rows, name, rank, len(saes), coloring, texts, colors)
        if coloring.values is not None:
            figure.add_trace(legend_entry(trace, colors))
        figure.add_trace(trace)
    for ring, (name, chosen) in zip(colors.rings, groups.items(), strict=False):
        rows = checked_rows(chosen, len(points))
        if len(rows):
            size, width = ring_size(len(rows))
            figure.add_trace(ring_trace(points, rows, f"{name} ({len(rows):,})", ring, size, width))
    if selected is not None:
        rows = checked_rows([selected], len(points))
        figure.add_trace(ring_trace(points, rows, "chosen latent", colors.selected, 20, 3))
    notes = [*_text_notes(texts, len(points), limit), *coloring.notes]
    if labels is not None and len(labels):
        around = view or view_around(points, range(len(points)))
        places = points[["umap_x", "umap_y"]].to_numpy()
        clear = [] if selected is None else [tuple(places[selected].tolist())]
        written = labels_without_overlap(labels, around, clear=clear)
        figure.update_layout(annotations=[_name(row, colors) for _, row in written.iterrows()])
        if len(written) < len(labels):
            notes.append(
                f"{len(written)} of {len(labels)} cluster names are written; the others would "
                "cover them. Zoom in on a part of the map for more."
            )
    return MapDrawing(figure, tuple(notes))


def narrowest_first(points: pd.DataFrame) -> dict[str, str]:
    """The labels of the SAEs, narrowest first, with the name that a reader sees for each.

    That is the width where all widths differ, and the label where they do not.
    """
    saes = points[["sae", "sae_width"]].drop_duplicates().sort_values("sae_width", kind="stable")
    if saes["sae_width"].is_unique:
        return {row.sae: f"{row.sae_width:,} latents" for row in saes.itertuples()}
    return {row.sae: as_label(str(row.sae)) for row in saes.itertuples()}


def _name(row: pd.Series, colors: Palette) -> dict[str, object]:
    return {
        "x": float(row["x"]),
        "y": float(row["y"]),
        "text": as_label(str(row["text"])),
        "showarrow": False,
        "font": {"size": 12, "color": colors.text},
        "bgcolor": colors.panel,
        "opacity": 0.85,
        "borderpad": 1,
    }


def _layout(
    colors: Palette, height: int, view: View | None, revision: Hashable, coloring: PointColors
) -> go.Layout:
    layout = base_layout(colors, height=height)
    # Not to one scale: who is near whom is all that a UMAP says, and a flat map would be left with
    # half of the room.
    axis = {"visible": False, "showgrid": False, "zeroline": False}
    layout.xaxis = layout.yaxis = axis
    if view is not None:
        layout.xaxis.range, layout.yaxis.range = view[:2], view[2:]
    layout.dragmode = "pan"
    layout.uirevision = f"{revision}|{view}"
    layout.legend = {
        "traceorder": "reversed",
        "itemsizing": "constant",
        "orientation": "h",
        "yanchor": "bottom",
        "y": 1.0,
        "xanchor": "left",
        "x": 0.0,
    }
    layout.margin.t = 36
    # Beside the legend, not on top of it.
    layout.modebar.orientation = "v"
    if coloring.axis is not None:
        layout.coloraxis = coloring.axis
    return layout


def _text_notes(texts: HoverTexts, n_points: int, limit: int) -> list[str]:
    cut = []
    if texts.description_length is not None:
        cut.append(f"the first {texts.description_length} characters of a description")
    if texts.n_tokens is not None:
        cut.append(f"{texts.n_tokens} tokens")
    if not cut:
        return []
    return [
        f"Under the mouse are {' and '.join(cut)}, so that {n_points:,} points stay under "
        f"{limit / MEGABYTE:.0f} MB; click a point for everything."
    ]


def _texts(texts: Sequence[str] | pd.Series | None, n: int, name: str) -> list[str] | None:
    if texts is None:
        return None
    if len(texts) != n:
        raise ValueError(f"There are {len(texts)} {name} for {n} points; give one for each.")
    listed = texts.tolist() if isinstance(texts, pd.Series) else texts
    return [text if isinstance(text, str) else "" for text in listed]


def _check(points: pd.DataFrame, colour: str, view: View | None) -> None:
    needed = ["sae", "sae_width", "latent_idx", "umap_x", "umap_y"]
    needed += ["cluster"] if colour == "cluster" else []
    missing = [column for column in needed if column not in points]
    if missing:
        raise ValueError(f"The points have no column {missing[0]!r}; they need {needed}.")
    if view is not None and not (view[0] < view[1] and view[2] < view[3]):
        raise ValueError(f"The view {view} is empty; give x from, x to, y from, y to.")
