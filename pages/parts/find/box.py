"""Search everything that is said of the latents of a model, in all its SAEs and layers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.catalog.entries import SaeEntry
from core.description_search.view import MOST_CHARACTERS, WAYS, FindView
from core.view.markup import escape_markdown, n_of
from core.view.selection import Selection, to_parameters
from pages.parts import (
    downloads,
    errors,
    going,
    job_results,
    loading,
    meaning,
    neuronpedia,
    tables,
    typed,
)
from pages.parts.find import jobs, session
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.description_search.find import Found
    from core.description_search.gather import Gathered

_MOST_SHOWN = 500
_HEIGHT = 420
_LAST = "find_last"


def draw(view: View) -> None:
    """The box, and what it finds; the selection says which model is searched."""
    if view.selection is None:
        return
    asked = session.begin()
    for problem in session.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    _box(view.selection, asked)
    if not asked.text:
        return
    if not job_results.libraries_ready(room=_HEIGHT):
        return
    with errors.shown_plainly():
        _results(view, view.selection, asked)


def _box(selection: Selection, asked: FindView) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        typed.line(
            f"Search what is said of all latents of {selection.model}",
            most=MOST_CHARACTERS,
            placeholder="for example: array",
            help="In all its SAEs and layers: what readers wrote, what autointerp and Neuronpedia "
            "said, and what was made offline.",
            **session.widget("find_text", "text", read=str.strip),
        )
        st.segmented_control(
            "Search by",
            list(WAYS),
            required=True,
            format_func=WAYS.__getitem__,
            help="Words: descriptions that hold all of them, in any order. Pattern: a regular "
            "expression (RE2). Meaning: descriptions that are about the same.",
            **session.choices("find_by", "by"),
        )


def _results(view: View, selection: Selection, asked: FindView) -> None:
    names = view.choices.names_of(selection.model)
    entries = [
        entry
        for listed in view.choices.saes.values()
        for entry in listed
        if entry.model in names and entry.problem is None
    ]
    models = sorted({name for name in (*names, selection.model) if name})
    gathered = jobs.collected(selection, models, entries)
    if gathered is None:
        return
    if not len(gathered.texts):
        st.info(
            f"Nothing has been said yet of the latents of {escape_markdown(selection.model)} on "
            "this server.",
            icon=":material/speaker_notes_off:",
        )
    else:
        found = _found(selection, gathered, asked)
        if found is None:
            return
        _said(gathered, found, asked)
        _table(selection, gathered, found)
    if view.entry is not None:
        _silent(selection, gathered, view.entry)


def _found(selection: Selection, gathered: "Gathered", asked: FindView) -> "Found | None":
    from core.description_search.find import by_pattern, by_words

    if asked.by == "meaning":
        key = f"{session.collected()}:{selection.model}:{len(gathered.texts)}"
        return meaning.by_meaning(gathered.texts.tolist, asked.text, selection=selection, key=key)
    place = (session.collected(), selection.model, len(gathered.texts), asked)
    last: Any = st.session_state.get(_LAST)
    if last is None or last[0] != place:
        search = by_pattern if asked.by == "pattern" else by_words
        last = place, search(gathered.texts.tolist(), asked.text)
        st.session_state[_LAST] = last
    found: Found = last[1]
    return found


def _said(gathered: "Gathered", found: "Found", asked: FindView) -> None:
    """How many there are of how many, and what similar means."""
    n, shown = len(found.rows), min(_MOST_SHOWN, len(found.rows))
    some = f", the first {shown} of them below" if shown < n else ""
    n_saes = sum(one.n_described > 0 for one in gathered.covered)
    st.caption(
        f"{n_of(n, 'description')} of {len(gathered.texts):,} found{some}. Searched: what is said "
        f"of {n_of(gathered.n_described, 'latent')} in {n_of(n_saes, 'SAE')}; "
        f"{n_of(gathered.n_silent, 'latent')} have no description."
    )
    meaning.said(found, asked.text)


def _table(selection: Selection, gathered: "Gathered", found: "Found") -> None:
    from core.description_search.find import table_of, target

    if not len(found.rows):
        st.info("No description was found; try other words, or search by meaning.")
        return
    shown = replace(
        found,
        rows=found.rows[:_MOST_SHOWN],
        similarity=None if found.similarity is None else found.similarity[:_MOST_SHOWN],
        closer=None if found.closer is None else found.closer[:_MOST_SHOWN],
    )
    table = table_of(gathered, shown)
    if len(table.groupby(["SAE", "release"])) == table["SAE"].nunique():
        table = table.drop(columns="release")  # the SAE's name says enough
    if table["score"].isna().all():
        table = table.drop(columns="score")

    # What is said gets the room that the other columns leave.
    is_plain = not {"similarity", "score", "release"} & set(table)

    def chosen(line: int) -> None:
        entry, latent = target(gathered, shown, line)
        found_there = Selection(selection.model, *entry.key, latent=latent)
        going.to("pages/latent.py", to_parameters(found_there))

    number = st.column_config.NumberColumn
    st.caption("A click on a line opens the latent.")
    tables.clickable(
        table,
        chosen,
        key="find_table",
        height=min(_HEIGHT, 38 + 35 * len(table)),
        column_config={
            "latent": number(format="%d", width=62),
            "description": st.column_config.TextColumn(width=500 if is_plain else 328),
            "layer": number(format="%d", width=52),
            "score": number(
                format="%.2f",
                width=60,
                help="How well it predicts the latent: balanced accuracy for autointerp (0.5 is "
                "chance), else the author's own measure.",
            ),
            "SAE": st.column_config.TextColumn(width=187),
            "said by": st.column_config.TextColumn(width=95),
            "similarity": number(format="%.2f", width=74, help="Cosine, at most 1."),
            "closer than": number(
                format="percent", width=84, help="Share of random pairs that are less alike."
            ),
        },
    )
    downloads.table(
        lambda: table_of(gathered, found),
        f"descriptions-{selection.model}",
        key="find_file",
        what="Found",
    )


def _silent(selection: Selection, gathered: "Gathered", chosen: SaeEntry) -> None:
    """SAEs of which nothing is said at all, and how those that are here get descriptions."""
    silent = [one for one in gathered.covered if not one.n_described]
    if not silent:
        return
    n = sum(one.d_sae or 0 for one in silent)
    of = f" ({n_of(n, 'latent')})" if n else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption(
            f"Of {len(silent)} of the {n_of(len(gathered.covered), 'SAE')}{of} nothing is said at "
            "all.",
            width="content",
        )
        here = _here(selection, [one.entry for one in silent])
        if here:
            jobs.draw_describing(selection, here)
        else:
            st.caption(
                "Descriptions come from reading a text with an SAE, on the page of a latent, or "
                "from Neuronpedia.",
                width="content",
            )
    if chosen.neuronpedia_id is not None and chosen.width is not None:
        neuronpedia.draw_fetch_button({chosen.sae_id: chosen}, {chosen.sae_id: chosen.width})


def _here(selection: Selection, entries: Sequence[SaeEntry]) -> list[SaeEntry]:
    """Those that are on this machine: local ones, and the published one that is loaded."""
    loaded = selection.sae if loading.is_loaded(selection) else None
    return [entry for entry in entries if entry.source != "hub" or entry.key == loaded]
