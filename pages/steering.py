"""Steering: what the model writes when a latent is made to speak, and what that breaks."""

from typing import TYPE_CHECKING

import streamlit as st

from core.catalog.entries import SaeEntry
from core.steering.view import groups_of
from core.view.choices import Choices
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, following, frame, latent_links, opening, view_state
from pages.parts.latent import elsewhere
from pages.parts.steering import VIEW, controls, jobs, keep, results
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.steering.result import SteerResult

INTRO = (
    "What does the model write when a latent is made stronger, set or removed? Each text stands "
    "beside the unsteered one and beside that of a random direction of the same length, so that "
    "*it means something* is told from *it only breaks the model*."
)

_MOST_FOLLOWED = 600
"""Characters of a text typed elsewhere with which the page begins."""


def draw(view: View) -> None:
    """What this page has of its own."""
    selection = opening.heading(view, "Steering", INTRO)
    if selection is None or view.entry is None:
        return
    steering = following.follow("steering", VIEW, VIEW.begin(), "prompt", most=_MOST_FOLLOWED)
    for problem in VIEW.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    controls.draw(steering, selection)
    if opening.ready(view):
        with errors.shown_plainly():
            _steer(selection, view.entry, view.choices)
    with st.container(horizontal=True, gap="medium"):
        elsewhere.draw(selection, here="steering")


def _steer(selection: Selection, entry: SaeEntry, choices: Choices) -> None:
    steering = VIEW.current()
    width = view_state.width_of(entry) or jobs.width(selection)
    groups = groups_of(steering, selected=selection.latent, width=width)
    largest = jobs.largest(selection, entry, steering, groups)
    if largest is None:
        return
    request = jobs.request(
        selection, entry, steering, groups, largest, width=width, choices=choices
    )
    link = latent_links.address("steering", selection, **VIEW.link.to_parameters(steering))

    def partly(result: "SteerResult", ended: bool) -> None:
        results.partly(request, result, steering, ended=ended)

    result = jobs.steered(request, link=link, partly=partly)
    if result is not None:
        results.draw(request, result, steering)
        keep.draw(selection, request, result, link=link)


frame.show(draw)
