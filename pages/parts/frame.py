"""What all pages have in common: the selection, the sidebar, and how errors are shown.

The frame is drawn by the pages rather than by app.py because Streamlit runs a page without app.py
where it finds a folder called pages: for the first visitor of a server whose link is not that of
the home page, and in its AppTest. The page files are named as their addresses, so that it finds
the page of such a link at all; app.py then takes over.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from core import resources
from core.asking import asking
from core.hosting import rights
from core.hosting.log_lines import Origin, coming_from, facts
from core.hosting.people import Person
from core.hosting.rights import Action
from core.view.markup import escape_markdown
from pages.parts import action, errors, going, look, people, programs, sidebar, tasks, view_state
from pages.parts.view_state import View

log = logging.getLogger(__name__)
_VISIT = "visit_of_page"


def show(draw: Callable[[View], None]) -> None:
    """A whole page, whose own part is `draw`."""
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    look.apply()
    request = secrets.token_hex(8)
    with coming_from(Origin(request)), errors.shown_plainly():
        person = people.begin()
        programs.begin()
        if not rights.allowed(person, Action.VIEW):
            people.door(person)
            return
        came = coming_from(Origin(request, person.id))
        with came, errors.shown_plainly(), asking(people.asking_of(person)), _timed(draw):
            going.go()
            _note_visit(draw)
            view = view_state.begin()
            sidebar.draw(view, person)
            tasks.said()
            _draining(person)
            draw(view)
            trouble = resources.store().trouble
            if trouble:
                st.warning(escape_markdown(trouble), icon=":material/hard_drive:")
    action.forget_clicks()
    resources.warm_up().start_soon()


def visit() -> str:
    """A name for this visit of the page: another one after another page was shown in between."""
    return str(st.session_state[_VISIT][1])


def _note_visit(draw: Callable[[View], None]) -> None:
    page = _name(draw)
    if st.session_state.get(_VISIT, ("", ""))[0] != page:
        st.session_state[_VISIT] = page, secrets.token_hex(6)


def _name(draw: Callable[[View], None]) -> str:
    return PurePath(draw.__code__.co_filename).stem


@contextmanager
def _timed(draw: Callable[[View], None]) -> Iterator[None]:
    """A line in the log when a page has been drawn."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = round(time.monotonic() - began, 3)
        log.info("A page was drawn", extra=facts(page=_name(draw), seconds=seconds))


def _draining(person: Person) -> None:
    """A sign that the server is about to stop."""
    if not person.local and resources.jobs().draining:
        st.warning(
            "This server is about to be restarted: what was computed can be seen, what runs goes "
            "on, and nothing new is started.",
            icon=":material/hourglass_bottom:",
        )
