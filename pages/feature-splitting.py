"""Feature splitting: one map of the latents of several SAEs, and what it shows."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import resources
from core.descriptions.sources import best_descriptions, coverage
from core.splitting.map_config import MapConfig
from core.splitting.members import members_of
from core.splitting.view import MapView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, frame, job_results, latent_links, opening
from pages.parts.look import is_dark
from pages.parts.splitting import (
    alone,
    chart,
    controls,
    files,
    groups,
    maps,
    point,
    search,
    session,
    tree,
)
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.splitting.map_data import MapData, MapRequest
    from core.splitting.text_evidence import Evidence

INTRO = (
    "Each point is a latent; similar directions lie close together, so that latents of a wide SAE "
    "lie around the one that they split from."
)
_PANELS = {
    "nearest": "Nearest latents",
    "tree": "Splitting tree",
    "selection": "Selection",
    "hits": "Search hits",
    "clusters": "Clusters",
    "new": "New latents",
    "descriptions": "Descriptions",
    "downloads": "Download",
}


def draw(view: View) -> None:
    """What this page has of its own."""
    selection = opening.heading(view, "Feature splitting", INTRO)
    if selection is None or view.entry is None:
        return
    members = members_of(view.choices, selection, view.entry)
    map_view = session.begin(members, view.entry)
    for problem in session.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    shown = map_view.saes
    asked = controls.draw(members, shown, map_view)
    alone.draw(view, selection, view.entry, members)
    if not job_results.libraries_ready(room=maps.ROOM):
        return
    from core.corpus import docs_sample
    from core.splitting.map_data import MapRequest

    request = MapRequest(
        model=selection.model,
        members=tuple(member for member in members if member.label in shown),
        config=MapConfig(**{name: getattr(map_view, name) for name in MapConfig.__annotations__}),
        corpus=docs_sample(),
        hide_dead=map_view.hide_dead,
    )
    link = latent_links.address("feature-splitting", selection)
    with errors.shown_plainly():
        if not maps.weights_ready(selection, request.members):
            return
        kept = maps.finished_map(request, link=link)
        if kept.result is not None:
            _explore(kept.result, kept.asked, selection, map_view, link, asked)


def _explore(
    data: "MapData",
    request: "MapRequest",
    selection: Selection,
    view: MapView,
    link: str,
    asked: DeltaGenerator,
) -> None:
    # In the order of the page; what fires is found out below the map, which is there before.
    notes, map_columns, sample = st.container(), st.container(), st.container()
    with sample:
        evidence = _evidence(request, data, link)
    descriptions = best_descriptions(
        resources.store(),
        data.described,
        published=files.fetched_descriptions(data),
        offline={label: one.offline for label, one in evidence.items()},
    )
    by_label = {label: described.texts for label, described in descriptions.items()}
    texts = [str(text or "") for text in data.per_point(by_label)]
    row = _chosen_row(data, selection)
    if view.colour == "cluster" and data.map.clusters is None:
        view = replace(view, colour="width")  # of the map that stays until clusters are found
    with asked:
        search.box(view)
    with notes:
        hits = search.hits(data, texts, view)
    lassoed = _lassoed(data, view)
    table, labels = data.cluster_tables(texts) or (None, None)
    if view.colour == "cluster" and table is None:  # those of a map that is being made
        view = replace(view, colour="width")
    scores: dict[str, np.ndarray] = {}
    if view.colour in ("output", "input"):
        with notes:
            scores = maps.found_scores(request, view.colour, link=link)
        if not scores:
            view = replace(view, colour="width")
    look = chart.Look(
        descriptions=texts,
        values=_values(data, view, row, evidence, scores),
        hits=hits,
        lassoed=lassoed,
        labels=labels if view.colour == "cluster" else None,
        selected=row,
    )
    if look.values is None and view.colour in ("frequency", "similarity"):
        needs = "the sample of text" if view.colour == "frequency" else "a chosen latent"
        notes.caption(f"This colour needs {needs}; widths are shown until then.")
        view = replace(view, colour="width")
    left, right = map_columns.columns([5, 2], gap="medium")
    dark = is_dark()
    with left:
        drawing = chart.draw(data, view, look, dark=dark)
        note = data.left_out_note()
        if note:
            st.caption(note)
        st.caption(coverage(descriptions))
    with right:
        point.draw(data, selection, row, descriptions, evidence)
    panel = session.choice(
        "More about the map", _PANELS, field="panel", key="map_panel", hide_label=True
    )
    with errors.shown_plainly():
        if panel == "tree":
            tree.draw(data, selection, row, descriptions, texts, evidence, dark=dark)
        elif panel == "selection":
            groups.selection(data, lassoed, texts)
        elif panel == "hits":
            search.draw_hits(data, texts, hits, view.search)
        elif panel == "clusters":
            groups.clusters(data, table, texts, row)
        elif panel == "new":
            groups.new_latents(data, evidence, texts)
        elif panel == "descriptions":
            files.descriptions(data, descriptions)
        elif panel == "downloads":
            files.downloads(data, drawing, texts)
        else:
            point.nearest(data, row, texts)


def _evidence(request: "MapRequest", data: "MapData", link: str) -> "dict[str, Evidence]":
    """What fires where: measured unasked for small models and maps, else at a click."""
    from core.splitting import large_config
    from core.splitting.text_evidence import expected_seconds
    from core.usual_time import in_words

    started = st.session_state.get("map_read_sample") == request.key
    is_demo = resources.catalog().model(request.model).source == "demo"
    small = is_demo and len(data.map.points) <= large_config.LARGE.above
    found = maps.found_evidence(request, start=small or started, link=link)
    if not found.evidence and not found.pending and not small and not started:
        with st.container(horizontal=True, vertical_alignment="center"):
            told = len(data.published_rates) == len(data.members)
            unknown = "What latents fire on" if told else "How often latents fire, and what on,"
            widths = [decoder.width for decoder in data.family.values()]
            seconds = expected_seconds(resources.store(), data.model_fingerprint, widths)
            st.caption(
                f"{unknown} is known after reading some text, which takes {in_words(seconds)}."
            )
            st.button(
                "Read a sample of text",
                on_click=lambda: st.session_state.update(map_read_sample=request.key),
                icon=":material/menu_book:",
            )
    return found.evidence


def _chosen_row(data: "MapData", selection: Selection) -> int | None:
    for label, member in data.members.items():
        if member.entry.key == selection.sae:
            return data.row(label, selection.latent)
    return None


def _lassoed(data: "MapData", view: MapView) -> list[int]:
    if view.picked:
        rows = [data.row(label, latent) for label, found in view.picked for latent in found]
        return sorted(row for row in rows if row is not None)
    from core.splitting.selection import rows_inside

    return rows_inside(data.map.points, view.lasso).tolist() if view.lasso else []


def _values(
    data: "MapData",
    view: MapView,
    row: int | None,
    evidence: "dict[str, Evidence]",
    scores: "dict[str, np.ndarray]",
) -> "np.ndarray | None":
    if scores:
        return np.array(data.per_point(scores), dtype=np.float64)
    if view.colour == "frequency":
        by_label = dict(data.published_rates)
        by_label |= {label: found.frequency for label, found in evidence.items()}
        return np.array(data.per_point(by_label), dtype=np.float64) if by_label else None
    if view.colour == "similarity" and row is not None:
        label, latent = data.latent(row)
        direction = data.family[label].direction(latent)
        cosines = {
            name: decoder.cosines(direction).numpy() for name, decoder in data.family.items()
        }
        return np.array(data.per_point(cosines), dtype=np.float64)
    return None


frame.show(draw)
