"""The dashboard of one latent."""

import math
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent import charts
from core.latent.view import LatentPageView
from core.view.selection import Selection
from pages.parts import errors, job_results, logit_tables, plots
from pages.parts.latent import (
    descriptions,
    elsewhere,
    examples,
    index,
    neighbours,
    text_to_read,
)

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.latent.dashboard import Dashboard
    from core.logit_statistics import LogitEffects


def draw(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """All of it; what needs a text that was read appears when it has been."""
    examples.style()
    # What it is, where it is active and what it does stand side by side on the first screen.
    left, right = st.columns([5, 4], gap="medium")
    with left:
        top, facts, strongest = st.container(border=True), st.container(), st.container()
    below = st.container()
    # In the order of the page; the index is asked for where its progress is to appear.
    opened, dashboard = None, None
    with strongest:
        with errors.shown_plainly():
            opened = index.open_index(selection, entry, view)
            if opened is not None:
                dashboard = _dashboard(opened, selection)
        if opened is None and not index.is_being_made(selection, entry, view):
            with errors.shown_plainly():
                text_to_read.draw_offer(selection, entry, view)
    with top, errors.shown_plainly():
        descriptions.draw(selection, entry, opened)
    with facts, errors.shown_plainly():
        if dashboard is not None:
            _facts(dashboard)
    with right, errors.shown_plainly():
        from core.logit_statistics import logit_effects

        effects = logit_effects(job_results.lease(selection), selection.latent)
        _effects(effects, dashboard, selection)
    shown = None
    if opened is not None and dashboard is not None:
        with strongest, errors.shown_plainly():
            shown = examples.draw(dashboard, opened, selection, view)
    with below:
        st.subheader("Try a text")
        with errors.shown_plainly():
            peak = dashboard.peak if dashboard is not None else None
            examples.draw_typed(selection, view, peak=peak)
        if opened is not None and dashboard is not None:
            with errors.shown_plainly():
                examples.draw_bands(dashboard, view, shown)
                text_to_read.draw_line(selection, entry, view)
    st.subheader("Similar latents")
    texts = None
    with errors.shown_plainly():
        if opened is not None:
            texts = descriptions.all_texts(entry, opened)
    neighbours.draw(selection, entry, dashboard, texts)
    st.subheader("This latent elsewhere")
    _elsewhere(selection, entry, view)


def _dashboard(opened: "OpenIndex", selection: Selection) -> "Dashboard | None":
    from core.latent.dashboard import read_dashboard

    found = read_dashboard(resources.store(), opened, selection.latent)
    if found is None:
        st.info("The examples were removed from the disk to make room; read the text again.")
    return found


def _facts(found: "Dashboard") -> None:
    from core.latent.dashboard import ALWAYS_ON

    if found.count == 0:
        st.info(
            f"This latent was never active on the {found.n_tokens:,} tokens that were read. It "
            "may be dead, or its subject may not occur in this text: read more, or another text.",
            icon=":material/bedtime:",
        )
        return
    with st.container(horizontal=True, gap="small"):
        st.metric(
            "Active at",
            charts.share(found.frequency),
            help=f"Density: {found.count:,} of the {found.n_tokens:,} tokens that were read, one "
            f"in {round(1 / found.frequency):,}.",
            width="content",
        )
        st.metric("Mean activation", f"{found.mean:.3g}", help="Where active.", width="content")
        st.metric("Largest activation", f"{found.peak:.3g}", width="content")
        spread = "unknown" if math.isnan(found.skew) else f"{found.skew:.2f}"
        st.metric(
            "Skew",
            spread,
            help="Skewness of its activations: above 0 when a few are much larger than most, as of "
            "latents that stand for one thing.",
            width="content",
        )
    if found.frequency > ALWAYS_ON:
        st.warning(
            "This latent is active at most tokens, so its examples say little about it: look at "
            "how strong it is where.",
            icon=":material/all_inclusive:",
        )


def _effects(effects: "LogitEffects", dashboard: "Dashboard | None", selection: Selection) -> None:
    logit_tables.tables(effects, selection)
    st.markdown(
        "**What it does to the vocabulary**",
        help="How much the score (logit) of each token changes when the latent is active with "
        "strength 1, read as if its direction went straight to the model's output. Numbers of "
        "tokens are on a logarithmic axis.",
    )
    plots.draw(charts.logits(effects), key="latent_logits", config=charts.CONFIG)
    st.markdown("**How strongly it is active**")
    if dashboard is not None and dashboard.count:
        plots.draw(charts.activations(dashboard), key="latent_activations", config=charts.CONFIG)
    else:
        st.caption("Known once a text was read on which it is active.")


def _elsewhere(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    with st.container(horizontal=True, gap="small"):
        elsewhere.draw(selection, here="latent", typed=view.text.strip())
    if entry.neuronpedia_id is None:
        return
    from core.neuronpedia import dashboard_url

    with errors.shown_plainly():
        url = dashboard_url(entry.neuronpedia_id, selection.latent)
        st.link_button("Its page on Neuronpedia", url, icon=":material/open_in_new:")
        if st.toggle("Show Neuronpedia's page here", key="latent_neuronpedia"):
            embedded = dashboard_url(entry.neuronpedia_id, selection.latent, embed=True)
            st.iframe(embedded, height=700)
