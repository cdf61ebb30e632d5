"""The selection of this run: read from the link or the session, written back to the link."""

from dataclasses import dataclass

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.choices import Choices
from core.view.selection import (
    PARAMETERS,
    Selection,
    needs_published_list,
    parse_link,
    to_parameters,
)
from pages.parts.page_state import SessionLink

_SELECTION, _PROBLEMS = "view_selection", "view_problems"
_VIEW, _WIDTHS = "view_of_this_run", "view_widths"
_address = SessionLink("view", PARAMETERS)


@dataclass(frozen=True)
class View:
    """What this run of a page shows."""

    choices: Choices
    """What the menus offer."""
    selection: Selection | None
    """What is looked at; None while that cannot be told, or when there is nothing."""
    entry: SaeEntry | None
    """The SAE of the selection."""
    problems: tuple[str, ...]
    """Sentences about a link that could not be followed."""
    waiting: bool
    """Whether the list of published SAEs must be read before the link makes sense."""


def begin() -> View:
    """Find out what to show; called once a run, before anything is drawn."""
    catalog, warm_up = resources.catalog(), resources.warm_up()
    hub = warm_up.published.done() and warm_up.published.exception() is None
    choices = resources.choices(hub=hub)
    parameters = _address.foreign() or _session_link(choices)
    waiting = False
    if parameters is not None:
        waiting = not warm_up.published.done() and needs_published_list(parameters, choices)
        if waiting:
            _address.forget()
        else:
            link = parse_link(parameters, catalog, choices)
            st.session_state[_SELECTION] = link.selection
            st.session_state[_PROBLEMS] = link.problems
    selection = None if waiting else st.session_state.get(_SELECTION)
    view = View(
        choices=choices,
        selection=selection,
        entry=choices.sae(*selection.sae) if selection else None,
        problems=() if waiting else st.session_state.get(_PROBLEMS, ()),
        waiting=waiting,
    )
    st.session_state[_VIEW] = view
    if selection is not None:
        _address.write(to_parameters(selection))
    return view


def current() -> View:
    """The view of the last run, for callbacks of widgets."""
    return st.session_state[_VIEW]


def choose(selection: Selection) -> None:
    """Show `selection` from the next run on; to be called from a widget's callback."""
    st.session_state[_SELECTION] = selection
    st.session_state[_PROBLEMS] = ()
    _address.lead()


def width_of(entry: SaeEntry) -> int | None:
    """Number of latents: as listed, else as found when the SAE was loaded in this session."""
    known: dict[tuple[str, str], int] = st.session_state.get(_WIDTHS, {})
    return entry.width if entry.width is not None else known.get(entry.key)


def remember_width(entry: SaeEntry, width: int) -> None:
    """Note the number of latents of an SAE whose listing does not tell it."""
    if width_of(entry) is None:
        st.session_state.setdefault(_WIDTHS, {})[entry.key] = width
        st.rerun()


def _session_link(choices: Choices) -> dict[str, str] | None:
    """What to parse when the session has no selection, or one that has gone; else None."""
    selection: Selection | None = st.session_state.get(_SELECTION)
    if selection is None:
        return _address.read()
    return None if choices.sae(*selection.sae) else to_parameters(selection)
