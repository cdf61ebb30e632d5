"""Home: what this is, the selected SAE, and its selected latent at a glance."""

import streamlit as st

from core import resources
from core.view.choices import Unavailable
from core.view.markup import escape_markdown
from core.view.selection import to_parameters
from pages.parts import (
    card,
    errors,
    frame,
    interrupted,
    jobs_panel,
    live_text,
    loading,
    logit_tables,
    opening,
    registry,
    share,
)
from pages.parts.find import box as find
from pages.parts.polling import rerun_when, reserve_room
from pages.parts.view_state import View

INTRO = (
    "A sparse autoencoder (SAE) takes the activations inside a language model apart into many "
    "*latents*, of which only a few are active at a time. Each latent ideally stands for one idea, "
    "and this explorer shows what it responds to and what it does. Choose a model, an SAE and a "
    "latent on the left; the address of this page is a link to what you see."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    opening.name_tab(view, "SAE Latent Explorer")
    st.title("SAE Latent Explorer")
    st.markdown(INTRO)
    for problem in view.problems:
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    if view.waiting:
        _wait_for_list()
    elif view.selection is None or view.entry is None:
        st.info(
            "There is nothing to explore yet: run `make demo` to build the demo, or set "
            "SAE_EXPLORER_SAES to a folder with SAEs of your own and start the explorer again."
        )
    else:
        find.draw(view)
        _selected(view)
    _tools(view)
    st.subheader("Running tasks")
    with errors.shown_plainly():
        jobs_panel.draw()
    with errors.shown_plainly():
        interrupted.draw()
    with errors.shown_plainly():
        share.draw()
    _unavailable(view.choices.unavailable)


def _selected(view: View) -> None:
    selection, entry = view.selection, view.entry
    if selection is None or entry is None:
        return
    loaded = loading.is_loaded(selection)
    with errors.shown_plainly():
        card.draw(selection, entry, loaded=loaded)
    st.subheader(f"Latent {selection.latent}")
    with errors.shown_plainly():
        if loaded:
            logit_tables.draw(selection)
        elif loading.draw(selection, entry):
            logit_tables.reserve()
        else:
            return
        st.subheader(f"Where latent {selection.latent} is active in a text")
        text = live_text.ask()
        if loaded:
            live_text.draw(selection, text)
        else:
            reserve_room(120)


def _wait_for_list() -> None:
    done = resources.warm_up().published.done
    rerun_when(done, draw=lambda: st.caption("Reading the list of published SAEs…"))
    reserve_room(400)


def _tools(view: View) -> None:
    tools = [tool for tool in registry.TOOLS if tool.url_path]
    if not tools:
        return
    st.subheader("Tools")
    parameters = to_parameters(view.selection) if view.selection else {}
    for tool in tools:
        st.page_link(tool.file, label=tool.title, icon=tool.icon, query_params=parameters)
        st.caption(tool.purpose)


def _unavailable(left_out: tuple[Unavailable, ...]) -> None:
    if not left_out:
        return
    with st.expander(f"Cannot be loaded ({len(left_out)}), and why", key="cannot_be_loaded"):
        for entry in left_out:
            st.markdown(f"**{escape_markdown(entry.name)}**: {escape_markdown(entry.reason)}")


frame.show(draw)
