"""The search in this session and in its link, and when descriptions are collected anew."""

import streamlit as st

from core.description_search.view import LINK
from pages.parts import frame
from pages.parts.page_state import PageState

_state = PageState("find", LINK)
begin, current, problems = _state.begin, _state.current, _state.problems
change, widget, choices = _state.change, _state.widget, _state.choices
_TIMES = "find_collected_times"


def collected() -> str:
    """A name for what this visit of the page has collected: with the next one, descriptions may
    have changed."""
    return f"{frame.visit()}-{st.session_state.get(_TIMES, 0)}"


def collect_anew() -> None:
    """Descriptions have changed on this page: the search looks at the store again."""
    st.session_state[_TIMES] = st.session_state.get(_TIMES, 0) + 1
