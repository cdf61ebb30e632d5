"""Go to a view of a page at a click on something that is no link.

A click on a line of a table, or a button that leads to another view of the page that it stands on:
the browser does not follow a link to the page that it shows already.
"""

from collections.abc import Mapping

import streamlit as st

_TO = "going_to"


def to(file: str, parameters: Mapping[str, str]) -> None:
    """Have the next run show the page `file` with these parameters; for callbacks of widgets."""
    st.session_state[_TO] = file, dict(parameters)


def go() -> None:
    """Go where a click has asked to; once a run, before anything is drawn."""
    wanted: tuple[str, dict[str, str]] | None = st.session_state.pop(_TO, None)
    if wanted is not None:
        file, parameters = wanted
        st.switch_page(file, query_params=parameters)
