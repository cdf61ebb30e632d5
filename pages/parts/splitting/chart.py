"""The map itself: drawn once per view, clicked, lassoed, zoomed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core.view.selection import Selection
from pages.parts import plots, view_state
from pages.parts.splitting import session, zoom_listener

if TYPE_CHECKING:
    import pandas as pd

    from core.splitting.figure import MapDrawing
    from core.splitting.map_data import MapData
    from core.splitting.view import MapView

KEY = "splitting_map"
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


def draw(data: "MapData", view: "MapView", look: Look, *, dark: bool) -> "MapDrawing":
    """The chart with its notes; the drawing, for downloads."""
    from core.splitting.figure import map_figure

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
    if drawing.notes:
        st.caption(" ".join(drawing.notes))
    return drawing


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

    latents: dict[str, list[int]] = {}
    for row in rows_inside(data.map.points, drawn.lasso).tolist() if drawn.lasso else ():
        label, latent = data.latent(row)
        latents.setdefault(label, []).append(latent)
    try:
        picked = with_picked(drawn, latents).picked
        session.change(picked=picked, lasso=(), panel="selection")
    except ValueError:  # more than a link can carry
        session.change(picked=(), lasso=drawn.lasso, panel="selection")


def _selected(data: "MapData") -> None:
    from core.splitting.selection import selected_rows
    from core.splitting.view import with_lasso

    event: Any = st.session_state[KEY].selection
    areas = [*event.get("lasso", ()), *event.get("box", ())]
    if areas:
        x, y = areas[-1]["x"], areas[-1]["y"]
        _pick(data, with_lasso(session.current(), x, y))
        return
    rows = selected_rows(event.get("points", ()), len(data.map.points))
    if len(rows):
        choose(data, int(rows[0]))
