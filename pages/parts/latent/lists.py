"""Lists of latents with notes, shared by everybody who uses this explorer."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from core import resources
from core.latent.lists import (
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
from core.latent.view import LatentPageView
from core.view.markup import escape_markdown, n_of
from core.view.selection import Selection
from pages.parts import action, people, tasks, typed, undo, uploads
from pages.parts.latent import session
from pages.parts.latent.session import draw_clickable_table

_FIRST = "Interesting"


def add(selection: Selection, description: str = "") -> None:
    """A menu that puts the latent on a list, with how it is described."""
    store = resources.store()
    names = list_names(store)
    with st.popover("Add to a list", icon=":material/playlist_add:"):
        st.selectbox(
            "List",
            names or [_FIRST],
            key="latent_add_list",
            accept_new_options=True,
            help="Choose a list, or type the name of a new one.",
        )
        note = f"latent_add_note_{selection.latent}"
        typed.area(
            "Note",
            key=note,
            most=MAX_NOTE,
            height=80,
            placeholder="What is it about? (may stay empty)",
        )

        def put() -> str:
            name = st.session_state["latent_add_list"] or ""
            noted = _noted(selection, st.session_state[note], description)
            n = put_on_list(store, name, [noted], by=people.current())
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
    undo.lists(key="latent_list_undo")
    chosen = view.chosen_list if view.chosen_list in names else (names[0] if names else None)
    if view.chosen_list and view.chosen_list not in names:
        st.info(f"There is no list “{escape_markdown(view.chosen_list)}” on this server.")
    if chosen is None:
        st.info("There are no lists yet. Add this latent to one above, or load a file below.")
        _load(_FIRST)
        return
    st.selectbox(
        "List",
        width=360,
        **session.menu("latent_list", "chosen_list", names, value=chosen),
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
    def remove() -> None:
        remove_list(resources.store(), name, by=people.current())
        session.change(chosen_list="")

    tasks.attempt(remove)


def _table(name: str, items: Sequence[Noted]) -> None:
    import pandas as pd

    if not items:
        st.caption("Nothing is on this list.")
        return
    table = pd.DataFrame(
        {
            "latent": [item.latent for item in items],
            "description": [item.description for item in items],
            "note": [item.note for item in items],
            "SAE": [item.sae_id for item in items],
            "release": [item.release for item in items],
            "model": [item.model for item in items],
        }
    )
    if any(it.author for it in items):
        table.insert(2, "by", [it.author for it in items])
    st.caption(f"{n_of(len(items), 'latent')}. A click on a line opens it.")
    targets = [Selection(item.model, item.release, item.sae_id, item.latent) for item in items]
    columns = {
        "description": st.column_config.TextColumn(
            width="large", help="As it was described when it was put on the list."
        ),
        "note": st.column_config.TextColumn(width="medium"),
    }
    draw_clickable_table(
        table, targets, key=f"latent_list_table_{name}", columns=columns, opens_dashboard=True
    )


def _note(name: str, items: Sequence[Noted], selection: Selection) -> None:
    """The note of the selected latent, to be changed, where it is on the list."""
    mine = next((item for item in items if item.place == _noted(selection, "").place), None)
    if mine is None:
        return
    store, key = resources.store(), f"latent_note_{name}_{selection.latent}"
    typed.area(f"Note on latent {selection.latent}", mine.note, key=key, most=MAX_NOTE)
    with st.container(horizontal=True, gap="small"):

        def save() -> str:
            noted = _noted(selection, st.session_state[key])
            put_on_list(store, name, [noted], by=people.current())
            return "The note is saved."

        action.button("Save the note", save, key="latent_note_save")
        action.button(
            "Take it off the list",
            lambda: take_off_list(store, name, [mine], by=people.current()),
            key="latent_note_remove",
        )


def _load(name: str) -> None:
    with st.expander("Load a list from a file", key="latent_list_from_file"):
        uploads.uploader(
            "CSV or JSON, as downloaded here",
            type=["csv", "json"],
            key="latent_list_file",
            max_upload_size=8,
            help="One row for each latent: model, release, sae_id, latent and, if you like, note.",
        )
        typed.line("Onto the list", name, key="latent_list_onto", most=MAX_NAME)

        def load() -> str:
            file, target = (
                st.session_state["latent_list_file"],
                st.session_state["latent_list_onto"],
            )
            if file is None:
                raise ValueError("Choose a file first.")
            items = read_list_file(file.getvalue(), file.name)
            n = put_on_list(resources.store(), target, items, by=people.current())
            session.change(chosen_list=" ".join(target.split()))
            return f"Read {n_of(len(items), 'latent')}; the list holds {n:,} now."

        action.button("Load", load, key="latent_list_load")


def _noted(selection: Selection, note: str, description: str = "") -> Noted:
    return Noted(
        selection.model,
        *selection.sae,
        latent=selection.latent,
        note=note,
        description=description[:MAX_NOTE],
    )
