"""Concepts of the reader's own, from files: sets of tokens, and two lists of texts."""

import streamlit as st

from core import resources
from core.absorption.view import AbsorptionView
from pages.parts import errors, uploads
from pages.parts.page_state import PageState


def sets(state: AbsorptionView, page: PageState[AbsorptionView]) -> None:
    """Sets of tokens of the reader's own."""
    with st.popover("Sets of my own", icon=":material/upload_file:"):
        st.markdown(
            'A JSON file such as `{"colours": ["red", "blue"]}`, or a CSV table with a column for '
            "each set and its name on top. A set needs 20 tokens that occur."
        )
        with errors.shown_plainly():
            given = uploads.word_lists(
                "File with sets", "Use these sets", key="absorption_file", use_key="absorption_use"
            )
            if given is not None:
                from core.enrichment.user_sets import store_lists

                page.change(mine=store_lists(resources.store(), given), concept="")
                st.rerun()
        if state.mine:
            st.button(
                "Back to the built-in sets",
                key="absorption_none",
                on_click=lambda: page.change(mine="", concept=""),
            )


def lists(page: PageState[AbsorptionView]) -> None:
    """Two lists of texts."""
    with st.popover("Lists of texts", icon=":material/upload_file:"):
        st.markdown(
            'A JSON file such as `{"polite": ["Could you …", …], "rude": ["Give me …", …]}`, or a '
            "CSV table of two columns with names on top; 20 texts or more in each."
        )
        with errors.shown_plainly():
            given = uploads.word_lists(
                "File with two lists",
                "Use these",
                key="absorption_lists_file",
                use_key="absorption_lists",
            )
            if given is not None:
                from core.absorption.text_lists import check_lists
                from core.enrichment.user_sets import store_lists

                check_lists(given)
                page.change(lists=store_lists(resources.store(), given), concept="")
                st.rerun()
