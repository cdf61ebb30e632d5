"""Waiting for something in the background without blocking the page."""

import itertools
from collections.abc import Callable

import streamlit as st

from core import resources


def rerun_when(
    ready: Callable[[], bool], *, draw: Callable[[], object], every: float = 1.0
) -> None:
    """Draw something again every so often until `ready`, then run the page once more."""

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
    """An empty frame of `height` pixels, so that what comes later moves nothing.

    Streamlit's skeletons are animated, which takes a whole core of a machine without a GPU.
    """
    with st.container(height=height, border=True):
        st.caption("…")
