"""The selection of this run: read from the link or the session, written back to the link.

The session's selection leads, and the link follows it. Only a link that this session did not
write itself (a new tab, an edited address, the Back button) is read.
"""

import time
from dataclasses import dataclass

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.choices import Choices, read_choices
from core.view.selection import (
    PARAMETERS,
    Selection,
    needs_published_list,
    parse_link,
    to_parameters,
)

_SELECTION, _PROBLEMS, _CHOSEN = "view_selection", "view_problems", "view_chosen"
_LINK, _LINK_BEFORE, _WRITTEN_AT = "view_link", "view_link_before", "view_link_written_at"
_VIEW, _WIDTHS = "view_of_this_run", "view_widths"
_STALE_SECONDS = 1.0


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
    choices = read_choices(catalog, hub=hub)
    parameters = _foreign_link() or _session_link(choices)
    waiting = False
    if parameters is not None:
        waiting = not warm_up.published.done() and needs_published_list(parameters, choices)
        if waiting:
            st.session_state.pop(_LINK, None)
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
        _write_link(selection)
    return view


def current() -> View:
    """The view of the last run, for callbacks of widgets."""
    return st.session_state[_VIEW]


def choose(selection: Selection) -> None:
    """Show `selection` from the next run on; to be called from a widget's callback."""
    st.session_state[_SELECTION] = selection
    st.session_state[_PROBLEMS] = ()
    st.session_state[_CHOSEN] = True


def width_of(entry: SaeEntry) -> int | None:
    """Number of latents: as listed, else as found when the SAE was loaded in this session."""
    known: dict[tuple[str, str], int] = st.session_state.get(_WIDTHS, {})
    return entry.width if entry.width is not None else known.get(entry.key)


def remember_width(entry: SaeEntry, width: int) -> None:
    """Note the number of latents of an SAE whose listing does not tell it."""
    if width_of(entry) is None:
        st.session_state.setdefault(_WIDTHS, {})[entry.key] = width
        st.rerun()


def _link() -> dict[str, str]:
    return {name: st.query_params[name] for name in PARAMETERS if name in st.query_params}


def _foreign_link() -> dict[str, str] | None:
    """The link of this run if it came from outside, else None."""
    state, link = st.session_state, _link()
    just_chosen = state.pop(_CHOSEN, False)
    if just_chosen or not link or link == state.get(_LINK):
        return None
    # A click may have been sent before the browser heard of the link that the last run wrote.
    is_recent = time.monotonic() - state.get(_WRITTEN_AT, 0.0) < _STALE_SECONDS
    if is_recent and link == state.get(_LINK_BEFORE):
        return None
    return link


def _session_link(choices: Choices) -> dict[str, str] | None:
    """What to parse when the session has no selection, or one that has gone; else None."""
    selection: Selection | None = st.session_state.get(_SELECTION)
    if selection is None:
        return _link()
    return None if choices.sae(*selection.sae) else to_parameters(selection)


def _write_link(selection: Selection) -> None:
    state, before, wanted = st.session_state, _link(), to_parameters(selection)
    if before != wanted:
        st.query_params.update(wanted)
        state[_LINK_BEFORE], state[_WRITTEN_AT] = before, time.monotonic()
    state[_LINK] = wanted
