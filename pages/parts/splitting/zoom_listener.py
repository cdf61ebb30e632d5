"""Tells the page how far the reader has zoomed, which Streamlit's chart does not.

A component without a look of its own listens to the chart's `plotly_relayout` event in the browser
and reports the visible part. Only the link follows it; the chart is not drawn again for it.
"""

from functools import cache
from typing import Any

import streamlit as st

from pages.parts import programs
from pages.parts.splitting import session

_SCRIPT = """
export default function (component) {
  const { setStateValue, data } = component
  let timer = null
  let chart = null
  const report = () => {
    const { xaxis, yaxis } = chart._fullLayout ?? {}
    if (!xaxis || !yaxis) return
    const zoom = xaxis.autorange || yaxis.autorange ? null : [...xaxis.range, ...yaxis.range]
    setStateValue("zoom", zoom)
  }
  const later = () => {
    clearTimeout(timer)
    timer = setTimeout(report, 300)
  }
  const leave = () => {
    if (chart && chart.removeListener) chart.removeListener("plotly_relayout", later)
  }
  // A chart that is drawn anew is another element: the listener follows it there.
  const attach = () => {
    const found = [...document.querySelectorAll(`.st-key-${data.chart} .js-plotly-plot`)].pop()
    if (!found || !found.on || found === chart) return
    leave()
    chart = found
    chart.on("plotly_relayout", later)
  }
  attach()
  const watch = setInterval(attach, 300)
  return () => {
    clearInterval(watch)
    clearTimeout(timer)
    leave()
  }
}
"""


def draw(chart_key: str) -> None:
    """Listen to the chart that has this key."""
    if not programs.is_one():
        st.fragment(_listen)(chart_key)


@cache
def _component() -> Any:
    return st.components.v2.component(
        "zoom_listener", html="<span></span>", js=_SCRIPT, isolate_styles=False
    )


def _listen(chart_key: str) -> None:
    key = f"{chart_key}_zoom"
    _component()(key=key, data={"chart": chart_key}, on_zoom_change=lambda: _zoomed(key))


def _zoomed(key: str) -> None:
    reported: Any = st.session_state.get(key)
    zoom = reported.get("zoom") if reported is not None else None
    session.note_zoom(zoom)
