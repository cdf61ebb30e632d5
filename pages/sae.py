"""SAE: is it good, what does it absorb, what is it made of, and what did a wider one add?"""

import streamlit as st

from core.catalog.entries import SaeEntry
from core.sae_quality.view import TABS, SaePageView
from core.view.markup import escape_markdown
from core.view.sae_facts import facts_of
from core.view.selection import Selection
from pages.parts import errors, frame, opening
from pages.parts.latent import elsewhere
from pages.parts.sae import VIEW, absorption, compare, meta, quality, stitching, text
from pages.parts.view_state import View

INTRO = (
    "The SAE as a whole: how much of the model's activations and predictions survives it, which "
    "latents swallow what others should say, what its latents are made of, and what a wider one "
    "added. Beside each figure stands what chance would reach."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    title = "SAE as a whole"
    page = VIEW.begin()
    part = TABS[page.tab] if page.tab != "quality" else ""
    selection = opening.heading(view, title, INTRO, part=part, about_latent=False)
    if selection is None or view.entry is None:
        return
    for problem in VIEW.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    st.segmented_control(
        "Part of the page",
        list(TABS),
        required=True,
        format_func=TABS.__getitem__,
        label_visibility="collapsed",
        **VIEW.choices("sae_tab", "tab"),
    )
    if not opening.ready(view):
        return
    st.markdown(
        f"**{escape_markdown(view.entry.sae_id)}** of {escape_markdown(view.entry.release)}"
    )
    text.draw(page, facts_of(view.entry).dataset or "")
    with errors.shown_plainly():
        _draw_tab(selection, view.entry, page, view)
    with st.container(horizontal=True, gap="medium"):
        elsewhere.draw(selection, here="sae")


def _draw_tab(selection: Selection, entry: SaeEntry, page: SaePageView, view: View) -> None:
    if page.tab == "compare":
        compare.draw(selection, entry, page, view.choices)
    elif page.tab == "absorption":
        absorption.draw(selection, entry, page, view.choices)
    elif page.tab == "stitching":
        stitching.draw(selection, entry, page, view.choices)
    elif page.tab == "meta":
        meta.draw(selection, entry, page, view.choices)
    else:
        quality.draw(selection, entry, page)


frame.show(draw)
