"""The logit lens tab: which tokens one latent pushes how far, and how all latents compare."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.view import COLOURS, LENS_LINK, LensView
from core.view.markup import visible_token
from core.view.selection import Selection
from pages.parts import downloads, errors, job_results, latent_links, plots, view_state
from pages.parts.latent import index
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from core.latent.lens import AllLenses
    from core.logit_statistics import LogitEffects

_MAP = "lens_scatter"


def draw(selection: Selection, entry: SaeEntry) -> None:
    """The tab; the selection must be loaded."""
    from core.latent.lens import N_BINS
    from core.logit_statistics import logit_effects

    state = PageState("lens", LENS_LINK)
    view = state.begin()
    st.caption(
        "The latent's direction, read as if it went straight to the model's output: how much the "
        "score (logit) of each token of the vocabulary changes when the latent is active with "
        "strength 1. Layers in between are left out."
    )
    with errors.shown_plainly():
        effects = logit_effects(job_results.lease(selection), selection.latent, n_bins=N_BINS)
        if effects.notes:
            st.caption(" ".join(effects.notes))
        _one(effects)
        st.markdown("**All latents of this SAE, by the shape of their effects**")
        _all(selection, entry, view, state)


def _one(effects: "LogitEffects") -> None:
    from core.latent import lens as lens_figures

    moments = effects.moments
    for column, (name, value, explained) in zip(
        st.columns(3),
        (
            (
                "Standard deviation",
                moments.std[0],
                "How far tokens are pushed on the whole, per unit of activation.",
            ),
            (
                "Skewness",
                moments.skewness[0],
                "Above 0: the tokens that are pushed far are pushed up. Below 0: they are pushed "
                "down. A random direction has about 0.",
            ),
            (
                "Excess kurtosis",
                moments.kurtosis[0],
                "High: a few tokens are pushed much farther than the rest. A normal distribution, "
                "and so a random direction, has about 0.",
            ),
        ),
        strict=True,
    ):
        column.metric(name, f"{value:.3f}" if value == value else "none", help=explained)
    if effects.is_flat:
        st.info("This latent pushes all tokens alike, so its effects have no shape.")
        return
    plots.draw(lens_figures.histogram(effects), key="lens_bars", config={"displaylogo": False})

    def table() -> "pd.DataFrame":
        import pandas as pd

        ends = [*effects.boosted, *reversed(effects.suppressed)]
        tokens = [visible_token(end.token) for end in ends]
        return pd.DataFrame({"token": tokens, "effect": [end.effect for end in ends]})

    with st.expander("The tokens at both ends", key="lens_both_ends"):
        st.dataframe(
            table(),
            hide_index=True,
            column_config={
                "effect": st.column_config.NumberColumn(
                    format="%+.3f", help="Change of the token's score per unit of activation."
                )
            },
        )


def _all(selection: Selection, entry: SaeEntry, view: LensView, state: PageState[LensView]) -> None:
    from core.latent import lens as lens_figures
    from core.latent.lens import all_lenses

    store = resources.store()
    found: AllLenses | None = job_results.recent_result(
        f"lens:{selection.model}:{entry.key}:{entry.version}",
        "Logit lens of all latents",
        lambda progress: all_lenses(job_results.lease(selection, progress=progress), store),
        link=latent_links.address("latent", selection, tab="lens"),
        room=560,
    )
    if found is None:
        return
    densities, descriptions = _known(selection, entry, len(found.tokens))
    st.segmented_control(
        "Colour",
        list(COLOURS),
        required=True,
        format_func=COLOURS.__getitem__,
        **state.choices("lens_colour", "colour"),
    )
    colour, title = found.moments.std, "standard deviation"
    if view.colour == "density":
        if densities is None:
            st.caption(
                "How often latents are active is known once a text was read with this SAE: open "
                "the dashboard to start that."
            )
        else:
            colour, title = densities, "log10 of the share of tokens"

    def clicked() -> None:
        event: Any = st.session_state[_MAP]
        points = event.selection.get("points", ())
        if points:
            number = points[0].get("customdata")
            number = number[0] if isinstance(number, list | tuple) else number
            if number is not None and 0 <= int(number) < len(found.tokens):
                view_state.choose(replace(selection, latent=int(number)))

    figure = lens_figures.scatter(
        found.moments,
        found.tokens,
        chosen=selection.latent,
        colour=colour,
        colour_title=title,
        descriptions=descriptions,
    )
    plots.draw(
        figure,
        key=_MAP,
        on_select=clicked,
        selection_mode="points",
        config={"scrollZoom": True, "displaylogo": False},
    )
    st.caption(
        "Each point is a latent; click one to see its tokens above. Latents that stand for single "
        "words lie far up; the ring marks the chosen one. The upright axis is straight near 0 and "
        "logarithmic farther out."
    )
    _downloads(selection, found, figure)


def _known(
    selection: Selection, entry: SaeEntry, width: int
) -> "tuple[np.ndarray | None, Sequence[str] | None]":
    """log10 densities and descriptions, as far as the dashboard has found them out."""
    opened = index.open_if_made(selection, entry)
    if opened is None or opened.d_sae != width:
        return None, None
    return opened.summary["log10_frequency"].to_numpy(), index.offline_texts(opened)


def _downloads(selection: Selection, found: "AllLenses", figure: Any) -> None:
    def table() -> "pd.DataFrame":
        import pandas as pd

        moments = vars(found.moments)
        return pd.DataFrame(
            {"latent": range(len(found.tokens)), **moments, "makes more likely": found.tokens}
        )

    name = f"{selection.sae_id}-logit-lens"
    downloads.table(table, name, key="lens_table")
    downloads.figure(figure, name, title="Logit lens of all latents", key="lens_figure")
