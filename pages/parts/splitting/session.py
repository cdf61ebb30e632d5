"""The view of the map in this session.

The zoom is followed in the browser and only noted, for the link and for when the figure is drawn
next: drawing it for every turn of the wheel would send all points again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core.splitting.members import Member
from core.splitting.view import LINK, MapView, parse_view, with_zoom
from pages.parts.page_state import PageState

_state = PageState("splitting", LINK)
current, problems = _state.current, _state.problems


def begin(members: Sequence[Member]) -> MapView:
    """The view to show; a link that this session did not write is followed first."""
    widths = {member.label: member.entry.width or 0 for member in members}

    def parse(link: Mapping[str, str]) -> tuple[MapView, tuple[str, ...]]:
        parsed = parse_view(link, widths=widths)
        return parsed.view, parsed.problems

    view = _state.begin(parse)
    if any(label not in widths for label in view.saes):  # another model or site was chosen
        view = replace(view, saes=(), zoom=None, lasso=())
        _state.note(view)
    return view


def change(**fields: Any) -> None:
    """Another view from the next run on; for callbacks of widgets."""
    if {"saes", "n_neighbors", "min_dist", "seed", "hide_dead"} & set(fields):
        fields |= {"zoom": None, "lasso": ()}  # places on another map
    _state.change(**fields)


def zoom_to(zoom: tuple[float, float, float, float] | None) -> None:
    """Draw the map at another zoom."""
    _state.show(with_zoom(current(), zoom))


def choice(
    label: str,
    options: Mapping[str, str],
    *,
    field: str,
    key: str,
    hide_label: bool = False,
    help: str | None = None,
) -> str:
    """A row of buttons for one field of the view; `options` are its values and what they say."""
    st.session_state[key] = getattr(current(), field)

    def chosen() -> None:
        value = st.session_state[key]
        if value is not None:  # a second click on the same button
            change(**{field: value})

    st.segmented_control(
        label,
        list(options),
        format_func=options.__getitem__,
        key=key,
        on_change=chosen,
        label_visibility="collapsed" if hide_label else "visible",
        help=help,
    )
    return str(getattr(current(), field))


def note_zoom(zoom: Sequence[float] | None) -> None:
    """The reader has zoomed in the browser: only the link has to follow."""
    try:
        view = with_zoom(current(), None if zoom is None else tuple(zoom))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return
    _state.note(view)
