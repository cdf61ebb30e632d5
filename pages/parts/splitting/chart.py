"""The map itself: drawn once per view, clicked, lassoed, zoomed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core.view.selection import Selection
from pages.parts import plots, view_state
from pages.parts.splitting import point_map, session, zoom_listener

if TYPE_CHECKING:
    import pandas as pd

    from core.splitting.figure import MapDrawing
    from core.splitting.map_data import MapData
    from core.splitting.view import MapView

KEY = "splitting_map"
MOST_PLOTTED = 100_000
"""Points that Plotly draws; more are drawn as `point_map` does."""
HEIGHT = 720


@dataclass(frozen=True)
class Look:
    """What is drawn on the map besides its points."""

    descriptions: Sequence[str]
    """Text of each point."""
    values: "np.ndarray | None" = None
    """What the colour stands for, of each point."""
    hits: Sequence[int] = ()
    """Points that the search found."""
    lassoed: Sequence[int] = ()
    """Points that were selected."""
    labels: "pd.DataFrame | None" = None
    """Names of clusters: `x`, `y`, `text`."""
    selected: int | None = None
    """The chosen latent."""


def draw(data: "MapData", view: "MapView", look: Look, *, dark: bool) -> "MapDrawing | None":
    """The chart with its notes; the drawing, for downloads, up to `MOST_PLOTTED` points."""
    from core.splitting.figure import map_figure

    if len(data.map.points) > MOST_PLOTTED:
        _draw_many(data, view, look, dark=dark)
        return None
    groups: Mapping[str, Sequence[int]] = {"search hits": look.hits, "selected": look.lassoed}
    drawing = map_figure(
        data.map.points,
        colour=view.colour,
        values=look.values,
        highlight=groups,
        labels=look.labels,
        selected=look.selected,
        descriptions=list(look.descriptions),
        tokens=data.boosted,
        view=view.zoom,
        dark=dark,
        height=HEIGHT,
    )
    image = st.session_state.get("map_image", "png")
    plots.draw(
        drawing.figure,
        key=KEY,
        theme=None,
        on_select=lambda: _selected(data),
        selection_mode=("points", "box", "lasso"),
        config={
            "scrollZoom": True,
            "displaylogo": False,
            "displayModeBar": True,
            "toImageButtonOptions": {"format": image, "filename": "feature-splitting", "scale": 2},
        },
    )
    zoom_listener.draw(KEY)
    notes = [*drawing.notes, *filter(None, [data.map.shortcuts])]
    if notes:
        st.caption(" ".join(notes))
    return drawing


def _draw_many(data: "MapData", view: "MapView", look: Look, *, dark: bool) -> None:
    from core.splitting.colors import palette, point_colors
    from core.splitting.figure import narrowest_first
    from core.splitting.packed import PointTokens, packed_points

    points, colors = data.map.points, palette(dark=dark)
    coloring = point_colors(points, view.colour, look.values, colors)
    tokens = PointTokens(data.tokens.boosted, data.vocabulary.texts)
    point_map.draw(
        points,
        packed_points(points, coloring, colors, narrowest_first(points), tokens=tokens),
        view,
        hits=look.hits,
        lassoed=look.lassoed,
        labels=look.labels,
        selected=look.selected,
        on_click=lambda row: choose(data, row),
        on_area=lambda x, y: _area(data, x, y),
    )
    notes = [*coloring.notes, data.map.shortcuts]
    if look.labels is not None and len(look.labels):
        notes.insert(0, "More cluster names are written the farther you zoom in.")
    st.caption(" ".join(filter(None, notes)))


def choose(data: "MapData", row: int) -> None:
    """Make the latent of a point the selected one, on this page and in the sidebar."""
    label, latent = data.latent(row)
    entry = data.members[label].entry
    view = view_state.current()
    if view.selection is not None:
        view_state.choose(Selection(view.selection.model, *entry.key, latent=latent))


def _pick(data: "MapData", drawn: "MapView") -> None:
    """What is selected are the latents inside of what was drawn, whatever map they are on later."""
    from core.splitting.selection import rows_inside
    from core.splitting.view import with_picked

    latents = data.latents(rows_inside(data.map.points, drawn.lasso) if drawn.lasso else [])
    try:
        picked = with_picked(drawn, latents).picked
        session.change(picked=picked, lasso=(), panel="selection")
    except ValueError:  # more than a link can carry
        session.change(picked=(), lasso=drawn.lasso, panel="selection")


def _area(data: "MapData", x: Sequence[float], y: Sequence[float]) -> None:
    from core.splitting.view import with_lasso

    _pick(data, with_lasso(session.current(), x, y))


def _selected(data: "MapData") -> None:
    from core.splitting.selection import selected_rows

    event: Any = st.session_state[KEY].selection
    areas = [*event.get("lasso", ()), *event.get("box", ())]
    if areas:
        _area(data, areas[-1]["x"], areas[-1]["y"])
        return
    rows = selected_rows(event.get("points", ()), len(data.map.points))
    if len(rows):
        choose(data, int(rows[0]))
