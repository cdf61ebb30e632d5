"""Latent gradients: what feeds latents, what they feed, and the circuits they form."""

import streamlit as st

from core.gradients import sae_choices
from core.view.markup import escape_markdown
from pages.parts import errors, frame, job_results, opening
from pages.parts.gradients import circuit, controls, induction, matrix
from pages.parts.view_state import View

INTRO = (
    "Latents of one layer are computed from what the layers before have written. For a prompt of "
    "yours, see which earlier latents (or tokens) feed which later ones (or the next token), "
    "whether that holds when the model is really changed, and which circuits they form."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    selection = opening.heading(view, "Latent gradients", INTRO)
    if selection is None:
        return
    current = controls.begin(view.choices, selection.model)
    if current.tab != "latents":
        opening.name_tab(view, f"Latent gradients · {controls.TABS[current.tab]}")
    for problem in controls.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    controls.tabs()
    if not job_results.libraries_ready(room=matrix.ROOM):
        return
    entries = sae_choices.usable(view.choices, selection.model)
    with errors.shown_plainly():
        if current.tab == "circuit":
            circuit.draw(selection, entries, current)
        elif current.tab == "induction":
            induction.draw(selection, entries, current)
        else:
            matrix.draw(selection, entries, current)


frame.show(draw)
