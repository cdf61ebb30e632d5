"""How the self-similarity changes with the scale, and the model's other reactions."""

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from pages.parts import downloads
from pages.parts.patch_scoping import runs

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.texts import BestText
    from core.view.patch_scoping.workbench import ScopeRequest

_FEWEST, _POINTS = 12, 20
_LONG_RANGE = 30


def draw(request: "ScopeRequest", result: "ScopeResult", best: "BestText", *, link: str) -> None:
    """The plot with its segments, and a plot of entropy, cross-entropy and score."""
    from core.patch_scoping.figure import reactions_figure, scale_tuning_figure
    from core.patch_scoping.scale_tuning import rank_scales

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
    table = runs.tuning(request, layer, _norms(result, layer), link=link)
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


def _norms(result: "ScopeResult", layer: int) -> tuple[float, ...]:
    """The sweep's scales; where they are few, others over the same range.

    They are evenly spaced, or by equal factors over a long range (then without 0).
    """
    table = result.table[result.table["layer"] == layer]
    norms = np.unique(table["scale"])
    positive = norms[norms > 0]
    if len(positive) > 1 and positive[-1] > _LONG_RANGE * positive[0]:
        few = len(positive) < _FEWEST
        norms = np.geomspace(positive[0], positive[-1], _POINTS) if few else positive
    elif 1 < len(norms) < _FEWEST:
        norms = np.linspace(norms[0], norms[-1], _POINTS)
    return tuple(round(float(it), 4) for it in norms)
