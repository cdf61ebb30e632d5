"""The whole text of an example, opened by a click on its name."""

from functools import cache
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.latent.examples import read_rows, rows_html
from core.latent.view import MOST_CHARACTERS, LatentPageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import following, job_results, latent_links
from pages.parts.latent import session

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex

_KEY = "latent_source"
_HEIGHT = 420
_SCRIPT = """
export default function (component) {
  const { setTriggerValue } = component
  const clicked = (event) => {
    const name = event.target.closest && event.target.closest("[data-place]")
    if (name) setTriggerValue("opened", Number(name.dataset.place))
  }
  document.addEventListener("click", clicked)
  // Until now a click would have been lost, so the names took none (core/latent/examples.py).
  document.documentElement.classList.add("lx-listens")
  return () => {
    document.removeEventListener("click", clicked)
    document.documentElement.classList.remove("lx-listens")
  }
}
"""


def listen(selection: Selection) -> None:
    """What tells the page that an example's name was clicked; once a page."""

    def opened() -> None:
        place: Any = st.session_state[_KEY].get("opened")
        if place is not None:
            session.change(opened=(selection.latent, int(place)))

    _component()(key=_KEY, on_opened_change=opened)


def draw(
    index: "OpenIndex", selection: Selection, view: LatentPageView, *, strongest: float
) -> None:
    """The text that was opened, where one of this latent was; the selection must be loaded."""
    if len(view.opened) != 2 or view.opened[0] != selection.latent:
        return
    from core.latent.source_text import source_text

    found = source_text(index, view.opened[1])
    with st.container(border=True):
        name = escape_markdown(found.name or "The text of this example")
        part = "" if len(found.places) == found.n_document else f"{len(found.places):,} of its "
        st.markdown(f"**{name}**")
        rows = found.rows(index.token_set.context)
        read: Any = job_results.result(
            f"latent-rows:{index.key.digest}:{selection.latent}:{rows[0]}-{rows[-1]}",
            f"Reading a text for latent {selection.latent}",
            lambda progress: read_rows(
                job_results.lease(selection, progress=progress), index, rows, selection.latent
            ),
            wait=1.5,
            link=latent_links.address("latent", selection),
        )
        if read is not None:
            row = found.example(index, read)
            n_active = sum(value > 0 for value in row.activations)
            st.caption(
                f"{part}{found.n_document:,} tokens; active at {n_active:,} of those shown. The "
                "underlined token is the example's."
            )
            with st.container(height=_HEIGHT, border=False, key="latent_source_text"):
                st.html(rows_html([row], strongest=strongest, break_lines=True))
        with st.container(horizontal=True, gap="small"):
            st.button(
                "Try this text",
                key="latent_source_try",
                icon=":material/edit_note:",
                help="Puts the part around the example into “Try a text” below, to be changed.",
                on_click=_try,
                args=(found.plain(index, most=MOST_CHARACTERS),),
            )
            st.button(
                "Close",
                key="latent_source_close",
                icon=":material/close:",
                on_click=lambda: session.change(opened=()),
            )


def _try(text: str) -> None:
    session.change(text=text)
    following.note("latent", text)


@cache
def _component() -> Any:
    return st.components.v2.component(
        "latent_source", html="<span></span>", js=_SCRIPT, isolate_styles=False
    )
