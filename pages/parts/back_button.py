"""The Back button goes back one view a press.

Streamlit adds a step to the browser's history whenever a page writes its address, also when a
page that has just been opened only completes it with the set of SAEs or the tab that it shows.
Such an address takes the place of the one before: the reader has done nothing in between.
"""

from functools import cache
from typing import Any

import streamlit as st

from core import resources
from pages.parts import programs

_SCRIPT = """
export default function () {
  if (window.completesAddresses) return
  window.completesAddresses = true
  // Whether a click came just before this script did cannot be told: then it counts as one.
  let opened = -1
  let acted = 0
  const act = () => { acted = performance.now() }
  for (const kind of ["pointerdown", "keydown", "wheel"]) {
    document.addEventListener(kind, act, { capture: true, passive: true })
  }
  window.addEventListener("popstate", () => { opened = performance.now() }, true)
  const { history } = window
  const push = history.pushState.bind(history)
  history.pushState = (state, title, address) => {
    const from = window.location.pathname
    const to = address ? new URL(address, window.location.href).pathname : from
    if (to === from && acted < opened) return history.replaceState(state, title, address)
    if (to !== from) opened = performance.now()
    return push(state, title, address)
  }
}
"""


def draw() -> None:
    """What does it in the browser, once a page."""
    # Components bring pandas, for which the first paint does not wait.
    if not programs.is_one() and resources.warm_up().libraries.done():
        _component()(key="back_button")


@cache
def _component() -> Any:
    return st.components.v2.component(
        "back_button", html="<span></span>", js=_SCRIPT, isolate_styles=False
    )
