"""Lists of latents with notes, shared by everybody who uses this explorer."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from core import resources
from core.view.latent.lists import (
    MAX_NAME,
    MAX_NOTE,
    Noted,
    export_list,
    list_names,
    put_on_list,
    read_list,
    read_list_file,
    remove_list,
    take_off_list,
)
from core.view.latent.page_view import LatentPageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts.latent import action, state
from pages.parts.latent.tables import choosable

_FIRST = "Interesting"


def add(selection: Selection) -> None:
    """A menu that puts the latent on a list."""
    store = resources.store()
    names = list_names(store)
    with st.popover("Add to a list", icon=":material/playlist_add:"):
        name = st.selectbox(
            "List",
            names or [_FIRST],
            key="latent_add_list",
            accept_new_options=True,
            help="Choose a list, or type the name of a new one.",
        )
        note = st.text_area(
            "Note",
            key=f"latent_add_note_{selection.latent}",
            max_chars=MAX_NOTE,
            height=80,
            placeholder="What is it about? (may stay empty)",
        )

        def put() -> str:
            n = put_on_list(store, name or "", [_noted(selection, note)])
            return f"Latent {selection.latent} is on the list, which holds {n:,} now."

        action.button("Add", put, key="latent_add_go", type="primary")


def draw(selection: Selection, view: LatentPageView) -> None:
    """One list with its latents and notes, and files in and out."""
    store = resources.store()
    names = list_names(store)
    st.caption(
        "Lists are kept on this server and are shared by everybody who uses it. Latents of any "
        "model and SAE can be on one list."
    )
    add(selection)
    chosen = view.chosen_list if view.chosen_list in names else (names[0] if names else None)
    if view.chosen_list and view.chosen_list not in names:
        st.info(f"There is no list “{escape_markdown(view.chosen_list)}” on this server.")
    if chosen is None:
        st.info("There are no lists yet. Add this latent to one above, or load a file below.")
        _load(_FIRST)
        return
    st.session_state["latent_list"] = chosen
    st.selectbox(
        "List",
        names,
        key="latent_list",
        on_change=lambda: state.change(chosen_list=st.session_state["latent_list"]),
        width=360,
    )
    items = read_list(store, chosen)
    _table(chosen, items)
    _note(chosen, items, selection)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        for file_format in ("csv", "json"):
            st.download_button(
                f"Download ({file_format.upper()})",
                partial(export_list, items, file_format),
                f"latents-{chosen}.{file_format}".replace("/", "_"),
                key=f"latent_list_{file_format}",
                icon=":material/download:",
                on_click="ignore",
            )
        with st.popover("Remove this list", icon=":material/delete:"):
            st.markdown(f"Remove “{escape_markdown(chosen)}” with all its notes, for everybody?")
            st.button(
                "Remove",
                key="latent_list_remove",
                on_click=_remove,
                args=(chosen,),
            )
    _load(chosen)


def _remove(name: str) -> None:
    remove_list(resources.store(), name)
    state.change(chosen_list="")


def _table(name: str, items: Sequence[Noted]) -> None:
    import pandas as pd

    if not items:
        st.caption("Nothing is on this list.")
        return
    table = pd.DataFrame(
        {
            "latent": [it.latent for it in items],
            "note": [it.note for it in items],
            "SAE": [it.sae_id for it in items],
            "release": [it.release for it in items],
            "model": [it.model for it in items],
        }
    )
    st.caption(f"{len(items):,} latents. A click on a line opens it.")
    targets = [Selection(it.model, it.release, it.sae_id, it.latent) for it in items]
    columns = {"note": st.column_config.TextColumn(width="large")}
    choosable(
        table, targets, key=f"latent_list_table_{name}", columns=columns, opens_dashboard=True
    )


def _note(name: str, items: Sequence[Noted], selection: Selection) -> None:
    """The note of the selected latent, to be changed, where it is on the list."""
    mine = next((it for it in items if it.place == _noted(selection, "").place), None)
    if mine is None:
        return
    store, key = resources.store(), f"latent_note_{name}_{selection.latent}"
    text = st.text_area(
        f"Note on latent {selection.latent}", mine.note, key=key, max_chars=MAX_NOTE
    )
    with st.container(horizontal=True, gap="small"):

        def save() -> None:
            put_on_list(store, name, [_noted(selection, text)])

        action.button("Save the note", save, key="latent_note_save", disabled=text == mine.note)
        action.button(
            "Take it off the list",
            lambda: take_off_list(store, name, [mine]),
            key="latent_note_remove",
        )


def _load(name: str) -> None:
    with st.expander("Load a list from a file"):
        file = st.file_uploader(
            "CSV or JSON, as downloaded here",
            type=["csv", "json"],
            key="latent_list_file",
            help="One row for each latent: model, release, sae_id, latent and, if you like, note.",
        )
        target = st.text_input("Onto the list", name, key="latent_list_onto", max_chars=MAX_NAME)

        def load() -> str:
            if file is None:
                raise ValueError("Choose a file first.")
            items = read_list_file(file.getvalue(), file.name)
            n = put_on_list(resources.store(), target, items)
            state.change(chosen_list=" ".join(target.split()))
            return f"Read {len(items):,} latents; the list holds {n:,} now."

        action.button("Load", load, key="latent_list_load", disabled=file is None)


def _noted(selection: Selection, note: str) -> Noted:
    return Noted(selection.model, *selection.sae, latent=selection.latent, note=note)
