"""Latent: what one latent responds to, what it does, and a way through all the others."""

import streamlit as st

from core.catalog.entries import SaeEntry
from core.latent.view import TABS, LatentPageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, frame, opening, scroll
from pages.parts.latent import (
    attribution,
    browse,
    dashboard,
    enrichment,
    find,
    index,
    lens,
    lists,
    prompt,
    session,
)
from pages.parts.view_state import View

INTRO = "What one latent responds to, what it does to the model's output, and what resembles it."


def draw(view: View) -> None:
    """What this page has of its own."""
    title = f"Latent {view.selection.latent}" if view.selection else "Latent"
    page = session.follow(session.begin())
    part = TABS[page.tab] if page.tab != "dashboard" else ""
    selection = opening.heading(view, title, INTRO, part=part)
    if selection is None or view.entry is None:
        return
    scroll.draw()
    for problem in session.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    page = index.resolve_text(selection, view.entry, page)
    session.note(page)  # a link shows the same later, when another text was read last
    tab = _tab(view.entry, page)
    if not opening.ready(view):
        return
    with errors.shown_plainly():
        _draw_tab(tab, selection, view.entry, page)


def _tab(entry: SaeEntry, page: LatentPageView) -> str:
    reads_heads = (entry.hook_name or "").endswith("hook_z")
    tabs = [tab for tab in TABS if tab != "sources" or reads_heads or page.tab == "sources"]
    st.segmented_control(
        "Part of the page",
        tabs,
        required=True,
        format_func=TABS.__getitem__,
        label_visibility="collapsed",
        **session.choices("latent_tab", "tab"),
    )
    return page.tab


def _draw_tab(tab: str, selection: Selection, entry: SaeEntry, page: LatentPageView) -> None:
    if tab == "browse":
        browse.draw(selection, entry, page)
    elif tab == "lists":
        lists.draw(selection, page)
    elif tab == "prompt":
        prompt.draw(selection, entry)
    elif tab == "find":
        find.draw(selection, entry, page)
    elif tab == "lens":
        lens.draw(selection, entry)
    elif tab == "enrichment":
        enrichment.draw(selection, entry)
    elif tab == "sources":
        attribution.draw(selection, entry)
    else:
        dashboard.draw(selection, entry, page)


frame.show(draw)
