"""Latent: what one latent responds to, what it does, and a way through all the others."""

import streamlit as st

from core.catalog.entries import SaeEntry
from core.view.latent.page_view import TABS, LatentPageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, frame, opening
from pages.parts.latent import (
    attribution,
    browse,
    dashboard,
    enrichment,
    index,
    lens,
    lists,
    prompt,
    state,
)
from pages.parts.view_state import View

INTRO = (
    "What one latent responds to and what it does: the texts at which it is most active, the "
    "tokens that it makes more or less likely, and the latents that resemble it."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    title = f"Latent {view.selection.latent}" if view.selection else "Latent"
    selection = opening.heading(view, title, INTRO)
    if selection is None or view.entry is None:
        return
    page = state.begin()
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    page = index.resolved(selection, view.entry, page)
    state.note(page)  # a link shows the same later, when another text was read last
    tab = _tab(view.entry, page)
    if not opening.loaded(view):
        return
    with errors.shown_plainly():
        _draw_tab(tab, selection, view.entry, page)


def _tab(entry: SaeEntry, page: LatentPageView) -> str:
    reads_heads = (entry.hook_name or "").endswith("hook_z")
    tabs = [it for it in TABS if it != "sources" or reads_heads or page.tab == "sources"]
    st.session_state["latent_tab"] = page.tab
    st.segmented_control(
        "Part of the page",
        tabs,
        format_func=TABS.__getitem__,
        key="latent_tab",
        label_visibility="collapsed",
        on_change=lambda: state.change(tab=st.session_state["latent_tab"] or page.tab),
    )
    return page.tab


def _draw_tab(tab: str, selection: Selection, entry: SaeEntry, page: LatentPageView) -> None:
    if tab == "browse":
        browse.draw(selection, entry, page)
    elif tab == "lists":
        lists.draw(selection, page)
    elif tab == "prompt":
        prompt.draw(selection, entry)
    elif tab == "lens":
        lens.draw(selection, entry)
    elif tab == "enrichment":
        enrichment.draw(selection, entry)
    elif tab == "sources":
        attribution.draw(selection, entry)
    else:
        dashboard.draw(selection, entry, page)


frame.show(draw)
