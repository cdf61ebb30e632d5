"""The SAEs of a family of widths, or of a release, in lines that can be clicked."""

from dataclasses import replace
from typing import Any

import streamlit as st

from core.catalog.entries import SaeEntry
from core.sae_quality.view import AMONG, SaePageView
from core.splitting.members import family_labels, members_of
from core.view.choices import Choices
from core.view.selection import Selection
from pages.parts import downloads, plots, tables, view_state, weights
from pages.parts.sae import VIEW, jobs

_MOST = 64


def entries_of(
    choices: Choices, selection: Selection, entry: SaeEntry, among: str
) -> list[SaeEntry]:
    """The SAEs to compare, narrowest or first layer first."""
    if among == "release":
        return list(choices.saes_for(selection.release, selection.model))
    members = members_of(choices, selection, entry)
    labels = family_labels(members, entry)
    return [it.entry for it in members if it.label in labels]


def draw(selection: Selection, entry: SaeEntry, view: SaePageView, choices: Choices) -> None:
    """The section."""
    st.segmented_control(
        "Compared",
        list(AMONG),
        required=True,
        format_func=AMONG.__getitem__,
        label_visibility="collapsed",
        **VIEW.choices("sae_among", "among"),
    )
    entries = entries_of(choices, selection, entry, view.among)
    if len(entries) < 2:
        st.info(
            "This SAE has no relatives of another width at its site; choose “This release” above, "
            "or an SAE of a family on the left."
            if view.among == "family"
            else "This release has no other SAE for this model; choose another on the left."
        )
        return
    if len(entries) > _MOST:
        st.info(
            f"There are {len(entries)} SAEs here; the {_MOST} around the selected one are compared."
        )
        at = max(0, min(entries.index(entry) - _MOST // 2, len(entries) - _MOST))
        entries = entries[at : at + _MOST]
    if not weights.ready(selection.model, entries, then="Download and measure"):
        return
    found = jobs.quality(selection, entries, view, unasked=False)
    if found is None:
        return
    _compared(
        selection, entry, view, entries, {e.sae_id: it.quality for e, it in _pairs(entries, found)}
    )


def _pairs(entries: list[SaeEntry], found: list[Any]) -> Any:
    return zip(entries, found, strict=True)


def _compared(
    selection: Selection,
    entry: SaeEntry,
    view: SaePageView,
    entries: list[SaeEntry],
    qualities: dict[str, Any],
) -> None:
    from core.sae_quality import figures
    from core.sae_quality.tables import quality_table

    table = quality_table(qualities, {it.sae_id: it for it in entries})
    shown = [name for name in figures.COMPARED if name in table]
    figure = view.figure if view.figure in shown else shown[0]
    st.selectbox(
        "Figure",
        format_func=figures.COMPARED.__getitem__,
        **VIEW.menu("sae_figure", "figure", shown, value=figure),
    )
    by = "latents" if view.among == "family" else "sae"
    drawing = figures.compared_figure(table, figure, by=by, chosen=entry.sae_id)

    def choose(place: int) -> None:
        if 0 <= place < len(entries):
            release, sae_id = entries[place].key
            view_state.choose(replace(selection, release=release, sae_id=sae_id, latent=0))

    def on_chart() -> None:
        event: Any = st.session_state["sae_compared"]
        points = [it for it in event.selection.get("points", ()) if it.get("curve_number") == 0]
        if points:
            choose(points[0]["point_index"])

    plots.draw(
        drawing,
        key="sae_compared",
        on_select=on_chart,
        selection_mode="points",
        config={"displaylogo": False},
    )
    st.caption("A click on a point or a line of the table opens that SAE.")
    columns = ["sae", "latents", *[it for it in shown if it != "sae"]]
    tables.clickable(
        table[columns].rename(columns=figures.COMPARED),
        choose,
        key="sae_compared_table",
    )
    name = f"{selection.release}-quality-{view.among}"
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: table, name, key="sae_compare", what="SAEs")
        downloads.figure(
            drawing, f"{name}-{figure}", title=name, key="sae_compare_figure", what="SAEs"
        )
