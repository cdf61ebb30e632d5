"""How a page of a tool begins: title, what it is for, and the selection loaded or being loaded."""

import streamlit as st

from core import resources
from core.view.markup import escape_markdown
from core.view.page_title import page_title
from core.view.selection import Selection
from pages.parts import errors, loading
from pages.parts.polling import rerun_when, reserve_room
from pages.parts.view_state import View


def heading(
    view: View, title: str, intro: str, *, part: str = "", about_latent: bool = True
) -> Selection | None:
    """Draw the title; the selection of this page, or None with a word on why there is none yet.

    The browser's tab is named after the view: the `part` of the page, and the latent if the page is
    `about_latent`.
    """
    named = f"{title} · {part}" if part else title
    name_tab(view, named, about_latent=about_latent)
    st.title(title)
    st.markdown(intro)
    for problem in view.problems:
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    if view.waiting:
        done = resources.warm_up().published.done
        rerun_when(done, draw=lambda: st.caption("Reading the list of published SAEs…"))
        reserve_room(400)
        return None
    if view.selection is None or view.entry is None:
        st.info(
            "There is nothing to explore yet: choose a model and an SAE on the left, or run "
            "`make demo` to build the demo."
        )
        return None
    return view.selection


def name_tab(view: View, title: str, *, about_latent: bool = True) -> None:
    """The name of this view in the browser's tab and history."""
    named = page_title(title, view.selection, view.entry, about_latent=about_latent)
    st.set_page_config(page_title=named)


def ready(view: View, *, room: int = 600) -> bool:
    """Whether model and SAE are in memory; else they are being loaded, or a download is offered."""
    if view.selection is None or view.entry is None:
        return False
    if loading.is_loaded(view.selection):
        return True
    with errors.shown_plainly():
        if loading.draw(view.selection, view.entry):
            reserve_room(room)
    return False
