"""Layers against scales: where does the model read the latent best?"""

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts import downloads
from pages.parts.patch_scoping import runs, state

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.workbench import ScopeRequest


def draw(request: "ScopeRequest", result: "ScopeResult") -> None:
    """The heatmap; with one layer, the way to more."""
    from core.patch_scoping.figure import MEASURES, grid_figure

    n_layers = runs.n_layers(request.question.speaker)
    if len(request.config.layers) < 2:
        st.caption("Only one layer was tried; with several, they are compared here.")
        st.button(
            f"Try all {n_layers} layers",
            icon=":material/layers:",
            key="scope_all_layers",
            on_click=lambda: state.change(layers=tuple(range(n_layers))),
        )
        return
    measure = st.selectbox(
        "Colour",
        list(MEASURES),
        format_func=MEASURES.__getitem__,
        index=list(MEASURES).index("mean_log_prob"),
        key="scope_grid_measure",
        width=300,
    )
    dark = st.context.theme.type == "dark"
    drawing = grid_figure(result.table, measure, dark=dark)
    st.plotly_chart(drawing, width="stretch", key="scope_grid")
    st.caption("Point at a cell to read the text.")
    left, right, _ = st.columns([3, 2, 3])
    with left:
        name = f"layers-{request.latents[0]}"
        downloads.table(lambda: result.table, name, key="scope_grid_table")
    with right:
        downloads.figure(drawing, name, title="Scales and layers", key="scope_grid_page")
