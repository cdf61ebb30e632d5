"""The SAE's latents on a map, coloured by meta-latent."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.meta_sae.run import MetaRequest
from core.meta_sae.view import MAPS, MetaView
from core.view.selection import Selection
from pages.parts import downloads, job_results, plots, view_state
from pages.parts.page_state import PageState
from pages.parts.sae import jobs
from pages.parts.sae.meta_parts import chosen_meta

if TYPE_CHECKING:
    import pandas as pd

    from core.meta_sae.found import MetaFound


def draw(
    selection: Selection,
    entry: SaeEntry,
    request: MetaRequest,
    found: "MetaFound",
    state: MetaView,
    page: PageState[MetaView],
) -> None:
    """The map; it is drawn unasked for the demo."""
    from core.meta_sae import figures

    st.subheader("Where they lie on the map")
    key = f"meta-map:{request.model}:{request.sae}"
    engine, store = resources.engine(), resources.store()
    if not jobs.wanted(
        key,
        "Draw the map",
        start=jobs.is_demo(selection),
        about="The map of this SAE alone, as the splitting page draws it.",
    ):
        return

    def place(progress: Any) -> "pd.DataFrame":
        from core.meta_sae.placed import place_latents

        lease = engine.lease(request.model, [entry.key], progress=progress)
        return place_latents(lease, store, resources.worker().run)

    points = job_results.recent_result(key, f"Map of {entry.sae_id}", place, room=520)
    if points is None:
        return
    st.segmented_control(
        "Coloured by",
        list(MAPS),
        format_func=MAPS.__getitem__,
        label_visibility="collapsed",
        **page.choices("meta_coloured", "coloured"),
    )
    meta = chosen_meta(found, state, selection.latent) if state.coloured == "chosen" else None
    drawing = figures.map_figure(found.made, points, meta=meta, selected=selection.latent)

    def clicked() -> None:
        event: Any = st.session_state["meta_map"]
        hit = [it.get("customdata") for it in event.selection.get("points", ())]
        if hit and hit[0] is not None:
            latent = hit[0][0] if isinstance(hit[0], list) else hit[0]
            view_state.choose(replace(selection, latent=int(latent)))

    plots.draw(
        drawing,
        key="meta_map",
        on_select=clicked,
        selection_mode="points",
        config={"displaylogo": False},
    )
    st.caption("UMAP of the decoder rows; a click on a point chooses that latent.")
    name = f"{entry.release}-{entry.sae_id}-map-by-meta-latent"
    downloads.figure(drawing, name, title=name, key="meta_map_page")
