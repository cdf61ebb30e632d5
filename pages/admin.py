"""This server: who runs what, what is in memory, who used how much today, and stopping in peace."""

import streamlit as st

from core import resources
from core.hosting.rights import Action
from pages.parts import admin, errors, frame, people
from pages.parts.view_state import View


def draw(view: View) -> None:
    """What this page has of its own."""
    st.title("This server")
    people.require(Action.SEE_PEOPLE)
    if not resources.policy().hosted:
        st.info("This explorer is for one person: nobody logs in, and nothing is limited.")
        return
    for part in (admin.drain, admin.jobs, admin.memory, admin.used, admin.results, admin.rights):
        with errors.shown_plainly():
            part()


frame.show(draw)
