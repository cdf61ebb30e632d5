"""The view of the map in this session: read from a link, changed by widgets, written to the link.

The zoom is followed in the browser and only noted, for the link and for when the figure is drawn
next: drawing it for every turn of the wheel would send all points again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core.splitting.map_view import PARAMETERS, MapView, parse_view, to_parameters, with_zoom
from core.view.splitting.members import Member

_VIEW, _WRITTEN, _PROBLEMS = "splitting_view", "splitting_written", "splitting_problems"
_CHANGED = "splitting_changed"


def begin(members: Sequence[Member]) -> MapView:
    """The view to show; a link that this session did not write is followed first."""
    state, link = st.session_state, _link()
    widths = {member.label: member.entry.width or 0 for member in members}
    if link and link != state.get(_WRITTEN) and not state.get(_CHANGED):
        parsed = parse_view(link, widths=widths)
        state[_VIEW], state[_PROBLEMS] = parsed.view, parsed.problems
    state.pop(_CHANGED, None)
    view: MapView = state.get(_VIEW, MapView())
    if any(label not in widths for label in view.saes):  # another model or site was chosen
        view = replace(view, saes=(), zoom=None, lasso=())
        state[_VIEW] = view
    _write(view)
    return view


def current() -> MapView:
    """The view of this session, for callbacks."""
    return st.session_state.get(_VIEW, MapView())


def problems() -> tuple[str, ...]:
    """What of the link could not be followed."""
    return st.session_state.get(_PROBLEMS, ())


def change(**fields: Any) -> None:
    """Another view from the next run on; for callbacks of widgets."""
    view = replace(current(), **fields)
    if {"saes", "n_neighbors", "min_dist", "seed", "hide_dead"} & set(fields):
        view = replace(view, zoom=None, lasso=())  # places on another map
    _set(view)


def zoom_to(zoom: tuple[float, float, float, float] | None) -> None:
    """Draw the map at another zoom."""
    _set(with_zoom(current(), zoom))


def note_zoom(zoom: Sequence[float] | None) -> None:
    """The reader has zoomed in the browser: only the link has to follow."""
    try:
        view = with_zoom(current(), None if zoom is None else tuple(zoom))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return
    st.session_state[_VIEW] = view
    _write(view)


def _set(view: MapView) -> None:
    state = st.session_state
    state[_VIEW], state[_PROBLEMS], state[_CHANGED] = view, (), True


def _link() -> dict[str, str]:
    return {name: st.query_params[name] for name in PARAMETERS if name in st.query_params}


def _write(view: MapView) -> None:
    wanted, there = to_parameters(view), _link()
    for name in set(there) - set(wanted):
        del st.query_params[name]
    changed = {name: text for name, text in wanted.items() if there.get(name) != text}
    if changed:
        st.query_params.update(changed)
    st.session_state[_WRITTEN] = wanted
