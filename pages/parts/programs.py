"""Pages that a program uses in place of a browser: docs/agents.md.

A browser asks again while something is being computed. A program gets one answer for each call, so
its page waits a while for what is on its way.
"""

import time
from collections.abc import Callable

import streamlit as st
from streamlit.elements.lib import agent_spec

PATIENCE_SECONDS = 20.0
"""Longest that one run of a page waits: less than Streamlit's `server.agentWaitTimeout`."""
_LOOK_AGAIN_SECONDS = 0.05
_UNTIL = "programs_until"


def is_one() -> bool:
    """Whether a program looks at this page."""
    return agent_spec.is_recording()


def begin() -> None:
    """The patience of a run of a page begins with it."""
    if is_one():
        st.session_state[_UNTIL] = time.monotonic() + PATIENCE_SECONDS


def wait_for(ready: Callable[[], bool]) -> bool:
    """Whether something is there before the patience of this run of the page ends."""
    until = st.session_state.get(_UNTIL, 0.0)
    while not (there := ready()) and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_SECONDS)
    return there
