"""How the self-similarity changes with the scale, and the model's other reactions."""

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts import downloads
from pages.parts.patch_scoping import runs

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.texts import BestText
    from core.view.patch_scoping.workbench import ScopeRequest


def draw(request: "ScopeRequest", result: "ScopeResult", best: "BestText", *, link: str) -> None:
    """The plot with its segments, and a plot of entropy, cross-entropy and score."""
    from core.patch_scoping.figure import reactions_figure, scale_tuning_figure
    from core.patch_scoping.scale_tuning import rank_scales, scales_between

    st.caption(
        "How much of the latent's direction arrives at the end of the prompt, for each scale. The "
        "short lines show how it changes there: red the slope (first derivative), blue the slope "
        "and its change (second derivative), both exact. Good scales often lie where the curve "
        "has risen and begins to level off; the three with the best combined score are stars."
    )
    layers = request.config.layers
    layer = best.layer
    if len(layers) > 1:
        layer = st.selectbox(
            "Layer", layers, index=layers.index(best.layer), key="scope_tuning_layer", width=160
        )
    swept = result.table.loc[result.table["layer"] == layer, "scale"]
    table = runs.tuning(request, layer, scales_between(swept.tolist()), link=link)
    if table is None:
        return
    ranked = rank_scales(table)
    dark = st.context.theme.type == "dark"
    left, right = st.columns(2)
    drawing = scale_tuning_figure(ranked, dark=dark)
    with left:
        st.plotly_chart(drawing, width="stretch", key="scope_tuning_plot")
    with right:
        st.plotly_chart(
            reactions_figure(ranked, dark=dark), width="stretch", key="scope_reactions_plot"
        )
    left, right, _ = st.columns([3, 2, 3])
    with left:
        name = f"scale-tuning-{request.latents[0]}"
        downloads.table(lambda: ranked, name, key="scope_tuning_table")
    with right:
        downloads.figure(drawing, name, title="Scale tuning", key="scope_tuning_page")
