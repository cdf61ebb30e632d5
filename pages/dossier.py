"""Dossier: one latent, every line of evidence, one conclusion."""

from dataclasses import replace

import streamlit as st

from core.dossier.view import TABS
from core.view.markup import escape_markdown
from pages.parts import errors, frame, job_results, opening
from pages.parts.dossier import VIEW, batch, compare, hypothesis, latent, text
from pages.parts.latent import elsewhere
from pages.parts.view_state import View

INTRO = (
    "One latent, every line of evidence, and one conclusion by stated rules: what it reads and "
    "writes, what is said of it, what it belongs to, hides and works with. Each line alone can "
    "mislead; beside each stand random latents and random directions."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    title = f"Dossier of latent {view.selection.latent}" if view.selection else "Dossier"
    selection = opening.heading(view, title, INTRO, about_latent=view.selection is None)
    if selection is None or view.entry is None:
        return
    page = VIEW.begin()
    for problem in VIEW.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    page = replace(page, **text.resolved(selection, view.entry, page))
    VIEW.note(page)  # a link shows the same later, when another text was read last
    st.segmented_control(
        "Part of the page",
        list(TABS),
        format_func=TABS.__getitem__,
        label_visibility="collapsed",
        **VIEW.choices("dossier_tab", "tab"),
    )
    if not job_results.libraries_ready(room=600):
        return
    with errors.shown_plainly():
        parts = {"batch": batch, "test": hypothesis, "compare": compare}
        parts.get(page.tab, latent).draw(selection, view, page)
    with st.container(horizontal=True, gap="medium"):
        elsewhere.draw(selection, here="dossier")


frame.show(draw)
