"""What all pages have in common: the selection, the sidebar, and how errors are shown.

The frame is drawn by the pages rather than by app.py because Streamlit runs a page without app.py
where it finds a folder called pages: for the first visitor of a server whose link is not that of
the home page, and in its AppTest. The page files are named as their addresses, so that it finds
the page of such a link at all; app.py then takes over.
"""

from collections.abc import Callable

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from core import resources
from pages.parts import errors, sidebar, view_state
from pages.parts.view_state import View


def show(draw: Callable[[View], None]) -> None:
    """A whole page, whose own part is `draw`."""
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    with errors.shown_plainly():
        view = view_state.begin()
        sidebar.draw(view)
        draw(view)
    resources.warm_up().start_soon()
