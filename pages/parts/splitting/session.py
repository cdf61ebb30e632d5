"""The view of the map in this session.

The zoom is followed in the browser and only noted, for the link and for when the figure is drawn
next: drawing it for every turn of the wheel would send all points again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from core.catalog.entries import SaeEntry
from core.splitting.members import Member, first_labels
from core.splitting.view import LINK, MapView, parse_view, with_zoom
from pages.parts.page_state import PageState

_MAP = ("saes", "n_neighbors", "min_dist", "seed", "hide_dead")
_PROPOSED = "splitting_proposed"
# Places on one map mean nothing on another; latents that were picked stay the same.
_state = PageState("splitting", LINK, forgets={"zoom": _MAP, "lasso": _MAP})
current, problems = _state.current, _state.problems
change, widget, choices, menu = _state.change, _state.widget, _state.choices, _state.menu


def begin(members: Sequence[Member], chosen: SaeEntry) -> MapView:
    """The view to show; a link that this session did not write is followed first.

    Its SAEs are named from then on, so that choosing another latent, of whichever of them, leaves
    the map as it is. Only an SAE that is not on a map which nobody chose gets a map of its own.
    """
    widths = {member.label: member.entry.width or 0 for member in members}

    def parse(link: Mapping[str, str]) -> tuple[MapView, tuple[str, ...]]:
        parsed = parse_view(link, widths=widths)
        return parsed.view, parsed.problems

    view = _state.begin(parse)
    other_site = any(label not in widths for label in view.saes)  # or another model
    own = next(member.label for member in members if member.entry.key == chosen.key)
    proposed = view.saes and view.saes == st.session_state.get(_PROPOSED)
    if other_site or (proposed and own not in view.saes):
        view = replace(view, saes=(), zoom=None, lasso=(), picked=())
    if not view.saes:
        view = replace(view, saes=first_labels(members, chosen))
        st.session_state[_PROPOSED] = view.saes
    if view != _state.current():
        _state.note(view)
    return view


def choose_saes(labels: Sequence[str]) -> None:
    """Have these SAEs on the map, whichever of them a latent is chosen of."""
    st.session_state.pop(_PROPOSED, None)
    change(saes=tuple(labels))


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
    st.segmented_control(
        label,
        list(options),
        required=True,
        format_func=options.__getitem__,
        label_visibility="collapsed" if hide_label else "visible",
        help=help,
        **choices(key, field),
    )
    return str(getattr(current(), field))


def note_zoom(zoom: Sequence[float] | None) -> None:
    """The reader has zoomed in the browser: only the link has to follow."""
    try:
        view = with_zoom(current(), None if zoom is None else tuple(zoom))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return
    _state.note(view)
