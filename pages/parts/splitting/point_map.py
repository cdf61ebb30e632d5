"""The map of very many latents: drawn by WebGL in the browser, from eleven bytes a point.

Two components: the points, which a browser is sent once (the same again is sent as a reference),
and what is marked on them, which changes at a click. Only the link follows the zoom.
"""

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.view.markup import n_of
from pages.parts import programs
from pages.parts.splitting import session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from core.splitting.view import MapView

_HERE = Path(__file__).parent
_KEY = "splitting_points"
_HTML = """
<div class="point-map" data-map="splitting_points">
  <div class="point-map-bar">
    <span class="point-map-legend"></span>
    <span role="group" aria-label="What dragging does">
      <button type="button" data-mode="pan">Pan</button>
      <button type="button" data-mode="box">Box</button>
      <button type="button" data-mode="lasso">Lasso</button>
      <button type="button" data-all>Show all</button>
    </span>
  </div>
  <div class="point-map-canvas">
    <canvas aria-hidden="true"></canvas>
    <canvas tabindex="0" role="img" aria-label="Map of all latents. Arrow keys move it, plus and
      minus zoom; search above lists latents in words."></canvas>
    <div class="point-map-hover" hidden></div>
  </div>
</div>
"""
_CSS = """
.point-map { font: 13px 'Source Sans', sans-serif; }
.point-map-bar { display: flex; justify-content: space-between; gap: 12px; margin-bottom: 6px; }
.point-map-legend span { margin-right: 12px; }
.point-map-legend i { display: inline-block; width: 10px; height: 10px; border-radius: 5px;
  margin-right: 4px; }
.point-map button { font: inherit; color: inherit; background: none; padding: 3px 9px;
  border: 1px solid #8a8f96; border-radius: 6px; cursor: pointer; }
.point-map button[aria-pressed="true"] { background: #b35900; border-color: #b35900; color: #fff; }
.point-map-canvas { position: relative; height: 672px; }
.point-map canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; }
.point-map-hover { position: absolute; top: 0; left: 0; padding: 2px 8px; border-radius: 4px;
  background: #2f2d2b; color: #fff; pointer-events: none; white-space: pre; max-width: 90%;
  overflow: hidden; }
"""


def draw(
    points: "pd.DataFrame",
    packed: bytes,
    view: "MapView",
    *,
    hits: "Sequence[int]",
    lassoed: "Sequence[int]",
    labels: "pd.DataFrame | None",
    selected: int | None,
    on_click: "Callable[[int], None]",
    on_area: "Callable[[Sequence[float], Sequence[float]], None]",
) -> None:
    """The map; `packed` is as `core.splitting.packed.packed_points` makes it."""
    n = len(points)
    if programs.is_one():
        st.caption(f"Plot: a map of {n_of(n, 'latent')}. Search lists those that you look for.")
        return
    st.fragment(_points)(packed)
    marks: Mapping[str, Any] = {
        "map": _KEY,
        "hits": _bits(hits, n),
        "lassoed": _bits(lassoed, n),
        "labels": _labels(labels),
        "chosen": _place(points, selected),
        "zoom": list(view.zoom) if view.zoom is not None else None,
    }
    key = f"{_KEY}_marks"

    def clicked() -> None:
        chosen: Any = st.session_state[key].get("clicked")
        if chosen and 0 <= chosen["row"] < n:
            session.note_zoom(chosen["zoom"])
            on_click(int(chosen["row"]))

    def drawn() -> None:
        area: Any = st.session_state[key].get("drawn")
        if area:
            session.note_zoom(area["zoom"])
            on_area(area["x"], area["y"])

    _marks_component()(key=key, data=marks, on_clicked_change=clicked, on_drawn_change=drawn)


def _points(packed: bytes) -> None:
    def zoomed() -> None:
        reported: Any = st.session_state.get(_KEY)
        session.note_zoom(reported.get("zoom") if reported is not None else None)

    _points_component()(key=_KEY, data=packed, on_zoom_change=zoomed)


def _bits(rows: "Sequence[int]", n: int) -> str:
    from core.splitting.packed import row_bits

    return base64.b64encode(row_bits(rows, n)).decode() if len(rows) else ""


def _labels(labels: "pd.DataFrame | None") -> list[list[Any]]:
    if labels is None:
        return []
    rows = zip(labels["x"].round(3), labels["y"].round(3), labels["text"].astype(str), strict=True)
    return [[float(x), float(y), text[:60]] for x, y, text in rows]


def _place(points: "pd.DataFrame", row: int | None) -> list[float] | None:
    if row is None:
        return None
    return [float(points[column].iloc[row]) for column in ("umap_x", "umap_y")]


@cache
def _points_component() -> Any:
    parts = [(_HERE / name).read_text() for name in ("point_map_points.js", "point_map.js")]
    return st.components.v2.component("point_map", html=_HTML, css=_CSS, js="\n".join(parts))


@cache
def _marks_component() -> Any:
    return st.components.v2.component(
        "point_map_marks",
        html="<span></span>",
        js=(_HERE / "point_map_marks.js").read_text(),
        isolate_styles=False,
    )
