"""Begin at the top where a click has led to another part of the page.

The browser keeps how far a page was scrolled when Streamlit draws something else in its place.
"""

from functools import cache
from typing import Any

import streamlit as st

from pages.parts import programs

_TIMES = "scrolled_to_top"
_SCRIPT = """
export default function (component) {
  const { times } = component.data
  const key = "scrolledToTop"
  if (times > (window[key] ?? 0)) {
    const main = document.querySelector("[data-testid=stMain]")
    const up = () => main && main.scrollTo({ top: 0, behavior: "instant" })
    up()
    // What stood there before may leave after this was drawn, and the browser holds its place.
    for (const wait of [100, 400, 1000]) setTimeout(up, wait)
  }
  window[key] = times
}
"""


def to_top() -> None:
    """Have the next run begin at the top; for callbacks of widgets."""
    st.session_state[_TIMES] = st.session_state.get(_TIMES, 0) + 1


def draw() -> None:
    """What does it in the browser, once a page."""
    times = st.session_state.get(_TIMES, 0)
    if times and not programs.is_one():
        _component()(key="scroll_to_top", data={"times": times})


@cache
def _component() -> Any:
    return st.components.v2.component(
        "scroll_to_top", html="<span></span>", js=_SCRIPT, isolate_styles=False
    )
