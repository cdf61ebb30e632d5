"""Panels on scales and layers: where does the model read the latent best?"""

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts import downloads, look, plots
from pages.parts.patch_scoping import VIEW, jobs

if TYPE_CHECKING:
    from core.patch_scoping.run import ScopeRequest, ScopeResult
    from core.patch_scoping.tables import BestText


def tuning(request: "ScopeRequest", result: "ScopeResult", best: "BestText", *, link: str) -> None:
    """The plot with its segments, and a plot of entropy, cross-entropy and score."""
    from core.patch_scoping.figure import reactions_figure, scale_tuning_figure
    from core.patch_scoping.scale_ranking import rank_scales, scales_between

    st.caption(
        "How much of the latent's direction arrives at the end of the prompt, for each scale. The "
        "short lines show how it changes there: red the slope (first derivative), blue the slope "
        "and its change (second derivative), both exact. Good scales often lie where the curve "
        "has risen and begins to level off; the three with the best combined score are stars."
    )
    chosen = request.config.layers
    layer = best.layer
    if len(chosen) > 1:
        layer = st.selectbox(
            "Layer", chosen, index=chosen.index(best.layer), key="scope_tuning_layer", width=160
        )
    swept = result.table.loc[result.table["layer"] == layer, "scale"]
    table = jobs.tuning(request, layer, scales_between(swept.tolist()), link=link)
    if table is None:
        return
    ranked = rank_scales(table)
    dark = look.is_dark()
    left, right = st.columns(2)
    drawing = scale_tuning_figure(ranked, dark=dark)
    with left:
        plots.draw(drawing, width="stretch", key="scope_tuning_plot")
    with right:
        plots.draw(reactions_figure(ranked, dark=dark), width="stretch", key="scope_reactions_plot")
    left, right, _ = st.columns([3, 2, 3])
    with left:
        name = f"scale-tuning-{request.latents[0]}"
        downloads.table(lambda: ranked, name, key="scope_tuning_table", what="Scale tuning")
    with right:
        downloads.figure(
            drawing, name, title="Scale tuning", key="scope_tuning_page", what="Scale tuning"
        )


def layers(request: "ScopeRequest", result: "ScopeResult") -> None:
    """The heatmap; with one layer, the way to more."""
    from core.patch_scoping.figure import MEASURES, grid_figure

    n_layers = jobs.n_layers(request.question.speaker)
    if len(request.config.layers) < 2:
        st.caption("Only one layer was tried; with several, they are compared here.")
        st.button(
            f"Try all {n_layers} layers",
            icon=":material/layers:",
            key="scope_all_layers",
            on_click=lambda: VIEW.change(layers=tuple(range(n_layers))),
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
    dark = look.is_dark()
    drawing = grid_figure(result.table, measure, dark=dark)
    plots.draw(drawing, width="stretch", key="scope_grid")
    st.caption("Point at a cell to read the text.")
    left, right, _ = st.columns([3, 2, 3])
    with left:
        name = f"layers-{request.latents[0]}"
        downloads.table(
            lambda: result.table, name, key="scope_grid_table", what="Scales and layers"
        )
    with right:
        downloads.figure(
            drawing,
            name,
            title="Scales and layers",
            key="scope_grid_page",
            what="Scales and layers",
        )
