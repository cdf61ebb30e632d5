"""Waiting for something in the background without blocking the page."""

import itertools
from collections.abc import Callable

import streamlit as st

from core import resources
from pages.parts import programs


def rerun_when(
    ready: Callable[[], bool], *, draw: Callable[[], object], every: float = 1.0
) -> None:
    """Draw something again every so often until `ready`, then run the page once more.

    A program does not ask again by itself: its page waits here.
    """
    if programs.is_one():
        resources.warm_up().start()
        if programs.wait_for(ready):
            st.rerun()
        draw()
        return

    rounds = itertools.count()

    def look() -> None:
        if next(rounds):
            # The browser asks again, so it has the page, and imports may hold things up now.
            resources.warm_up().start()
        if ready():
            st.rerun()
        draw()

    st.fragment(look, run_every=every)()


def reserve_room(height: int) -> None:
    """Faint lines in a frame of `height` pixels where something comes, so that it moves nothing.

    They stand still: Streamlit's skeletons are animated, which takes a whole core of a machine
    without a GPU.
    """
    st.html(f'<div class="sx-wait" style="height:{height:d}px">In a moment…</div>')
