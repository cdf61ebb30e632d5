"""The dashboard of one latent."""

import math
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.latent.page_view import LatentPageView
from core.view.selection import Selection
from pages.parts import errors, glance, latent_links
from pages.parts.latent import (
    charts,
    descriptions,
    examples,
    index,
    live,
    neighbours,
    reading,
)

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.view.latent.dashboard import Dashboard, LogitEffects


def draw(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """All of it; what needs a text that was read appears when it has been."""
    examples.style()
    top, facts, effects_place = st.container(), st.container(), st.container()
    live_place, reading_place = st.container(), st.container()
    # In the order of the page; the index is asked for where its progress is to appear.
    opened, dashboard = None, None
    with reading_place:
        st.subheader("Examples")
        with errors.shown_plainly():
            opened = index.opened(selection, entry, view)
            if opened is not None:
                dashboard = _dashboard(opened, selection)
        if opened is None and not index.under_way(selection, entry, view):
            with errors.shown_plainly():
                reading.offer(selection, entry, view)
    with top, errors.shown_plainly(), st.container(border=True):
        descriptions.draw(selection, entry, opened)
    with facts, errors.shown_plainly():
        if dashboard is not None:
            _facts(dashboard)
    with effects_place, errors.shown_plainly():
        from core.view.latent.dashboard import logit_effects

        _effects(logit_effects(resources.engine(), selection), dashboard, selection)
    with live_place, errors.shown_plainly():
        st.subheader("Try a text")
        live.draw(selection, view, peak=dashboard.peak if dashboard is not None else None)
    with reading_place, errors.shown_plainly():
        if opened is not None and dashboard is not None:
            reading.line(selection, entry, view)
            examples.draw(dashboard, opened, selection, view)
    st.subheader("Similar latents")
    texts = None
    with errors.shown_plainly():
        if opened is not None:
            texts = descriptions.all_texts(entry, opened)
    neighbours.draw(selection, entry, dashboard, texts)
    st.subheader("This latent elsewhere")
    _elsewhere(selection, entry)


def _dashboard(opened: "OpenIndex", selection: Selection) -> "Dashboard | None":
    from core.view.latent.dashboard import read_dashboard

    found = read_dashboard(resources.store(), opened, selection.latent)
    if found is None:
        st.info("The examples were removed from the disk to make room; read the text again.")
    return found


def _facts(found: "Dashboard") -> None:
    from core.view.latent.dashboard import ALWAYS_ON

    if found.count == 0:
        st.info(
            f"This latent was never active on the {found.n_tokens:,} tokens that were read. It "
            "may be dead, or its subject may not occur in this text: read more, or another text.",
            icon=":material/bedtime:",
        )
        return
    with st.container(horizontal=True, gap="large"):
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
            "Skew of activations",
            spread,
            help="Above 0 when a few activations are much larger than most, as of latents that "
            "stand for one thing.",
            width="content",
        )
    if found.frequency > ALWAYS_ON:
        st.warning(
            "This latent is active at most tokens, so its examples say little about it: look at "
            "how strong it is where.",
            icon=":material/all_inclusive:",
        )


def _effects(effects: "LogitEffects", dashboard: "Dashboard | None", selection: Selection) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**How strongly it is active**")
        if dashboard is not None and dashboard.count:
            st.plotly_chart(
                charts.activations(dashboard), key="latent_activations", config=charts.CONFIG
            )
        else:
            st.caption("Known once a text was read on which it is active.")
    with right:
        st.markdown(
            "**What it does to the vocabulary**",
            help="How much the score (logit) of each token changes when the latent is active with "
            "strength 1, read as if its direction went straight to the model's output. Numbers of "
            "tokens are on a logarithmic axis.",
        )
        st.plotly_chart(charts.logits(effects), key="latent_logits", config=charts.CONFIG)
    glance.tables(effects, selection)


def _elsewhere(selection: Selection, entry: SaeEntry) -> None:
    with st.container(horizontal=True, gap="small"):
        latent_links.draw(selection, here="latent")
    if entry.neuronpedia_id is None:
        return
    from core.neuronpedia import dashboard_url

    with errors.shown_plainly():
        url = dashboard_url(entry.neuronpedia_id, selection.latent)
        st.link_button("Its page on Neuronpedia", url, icon=":material/open_in_new:")
        if st.toggle("Show Neuronpedia's page here", key="latent_neuronpedia"):
            embedded = dashboard_url(entry.neuronpedia_id, selection.latent, embed=True)
            st.iframe(embedded, height=700)
