"""The jobs behind the page: the map, what fires where, and descriptions from Neuronpedia."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.device import format_bytes
from core.jobs import JobState
from core.view import loading
from core.view.markup import escape_markdown
from core.view.selection import Selection
from core.view.splitting.members import Member
from pages.parts import work
from pages.parts.loading import plan_table
from pages.parts.polling import rerun_when, reserve_room

if TYPE_CHECKING:
    from core.view.splitting.build import MapData, MapRequest
    from core.view.splitting.evidence import Evidence

ROOM = 760


@dataclass(frozen=True)
class Found:
    """What is known of the SAEs on the map besides their directions."""

    evidence: "dict[str, Evidence]"
    """By label; empty until it is measured."""
    pending: bool
    """Whether it is being measured."""


def downloaded(selection: Selection, members: Sequence[Member]) -> bool:
    """Whether all weights are on this machine, or may be fetched; asks before it downloads."""
    if all(member.entry.source != "hub" for member in members):
        return True
    names = [member.entry.key for member in members]
    key = f"plan:{selection.model}:{names}"
    if st.session_state.get("map_download") == key:
        return True
    engine, catalog, jobs = resources.engine(), resources.catalog(), resources.loads()
    job = jobs.submit(
        key,
        f"Sizes of {len(names)} SAEs",
        lambda progress: loading.plan_all(engine, catalog, selection.model, names, progress),
    )
    job.wait(0.2)
    if not job.state.finished:
        text = "Asking what must be loaded…"
        rerun_when(lambda: job.state.finished, draw=lambda: st.caption(text))
        return False
    if job.state is not JobState.DONE:
        st.error(
            escape_markdown(job.view().error or "This was cancelled."), icon=":material/error:"
        )
        st.button("Try again", key="map_plan_again", on_click=lambda: jobs.forget(key))
        return False
    plan = job.result()
    if plan.complete and plan.problem is None:
        return True
    with st.container(border=True):
        n_bytes = format_bytes(plan.bytes_to_download)
        st.markdown(f"**The map needs weights that are not on this machine yet ({n_bytes})**")
        plan_table(plan)
        if plan.problem is not None:
            st.warning(escape_markdown(plan.problem), icon=":material/warning:")
        st.button(
            "Download and draw the map",
            type="primary",
            icon=":material/download:",
            disabled=plan.problem is not None,
            on_click=lambda: st.session_state.update(map_download=key),
        )
    return False


def finished_map(request: "MapRequest", *, link: str) -> "MapData | None":
    """The map, or None while it is being made, which is then shown in its place."""
    from core.view.splitting.build import build_map

    found = resources.recent_maps().get(request.key)
    if found is not None:
        return found
    engine, store = resources.engine(), resources.store()

    def make(progress: Any) -> None:
        data = build_map(engine, store, resources.worker().run, request, progress)
        resources.recent_maps().put(request.key, data)

    n = sum(member.entry.width or 0 for member in request.members)
    job = work.submitted_again(request.key, f"Map of {n:,} latents", make, link=link)
    job.wait(0.5)  # a map that was made before is there by then
    found = resources.recent_maps().get(request.key)
    if found is None:
        work.shown(job)
        reserve_room(ROOM)
    return found


def found_evidence(request: "MapRequest", *, start: bool, link: str) -> Found:
    """What the latents do on the sample; measured now if `start`, else if it was before."""
    from core.view.splitting.evidence import evidence_key, measure

    key = evidence_key(request.model, request.members, request.corpus)
    found = resources.recent_evidence().get(key)
    if found is not None:
        return Found(found, pending=False)
    job = resources.jobs().get(key)
    if job is None and not start:
        return Found({}, pending=False)
    engine, store = resources.engine(), resources.store()

    def make(progress: Any) -> None:
        evidence = measure(engine, store, request.model, request.members, request.corpus, progress)
        resources.recent_evidence().put(key, evidence)

    job = work.submitted_again(key, "Reading a sample of text", make, link=link)
    job.wait(0.3)
    found = resources.recent_evidence().get(key)
    if found is None:
        work.shown(job)
        return Found({}, pending=not job.state.finished)
    return Found(found, pending=False)
