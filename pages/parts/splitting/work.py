"""The jobs behind the page: the map, what fires where, and descriptions from Neuronpedia."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from core import resources
from core.device import format_bytes
from core.jobs import Job, JobState
from core.view import loading
from core.view.markup import escape_markdown
from core.view.selection import Selection
from core.view.splitting.members import Member
from core.view.warm_up import problem_of
from pages.parts import jobs_panel
from pages.parts.loading import plan_table
from pages.parts.polling import rerun_when, reserve_room

if TYPE_CHECKING:
    from core.view.splitting.build import MapData, MapRequest
    from core.view.splitting.evidence import Evidence

ROOM = 760
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What is known of the SAEs on the map besides their directions."""

    evidence: "dict[str, Evidence]"
    """By label; empty until it is measured."""
    pending: bool
    """Whether it is being measured."""


def libraries_ready() -> bool:
    """Whether torch and its like are imported; says so on the page while they are not."""
    libraries = resources.warm_up().libraries
    if not libraries.done():
        text = "Starting: loading the libraries that run models. This takes some seconds…"
        rerun_when(libraries.done, draw=lambda: st.caption(text))
        reserve_room(ROOM)
        return False
    problem = problem_of(libraries)
    if problem is not None:
        st.error(escape_markdown(problem), icon=":material/error:")
        return False
    return True


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

    def work(progress: Any) -> None:
        data = build_map(engine, store, resources.worker().run, request, progress)
        resources.recent_maps().put(request.key, data)

    n = sum(member.entry.width or 0 for member in request.members)
    job = _submitted_again(request.key, f"Map of {n:,} latents", work, link=link)
    job.wait(0.5)  # a map that was made before is there by then
    found = resources.recent_maps().get(request.key)
    if found is None:
        _shown(job)
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

    def work(progress: Any) -> None:
        evidence = measure(engine, store, request.model, request.members, request.corpus, progress)
        resources.recent_evidence().put(key, evidence)

    job = _submitted_again(key, "Reading a sample of text", work, link=link)
    job.wait(0.3)
    found = resources.recent_evidence().get(key)
    if found is None:
        _shown(job)
        return Found({}, pending=not job.state.finished)
    return Found(found, pending=False)


def result(key: str, title: str, work: Callable[[Any], T], *, wait: float = 0.5) -> T | None:
    """What a job returns, or None while it runs, or was stopped, which is then shown."""
    job = _submitted(key, title, work)
    job.wait(wait)
    if job.state is JobState.DONE:
        return job.result()
    _shown(job)
    return None


def _submitted(
    key: str, title: str, work: Callable[[Any], T], *, link: str | None = None
) -> Job[T]:
    """The job of `key`; a failed or cancelled one stays, for the reader to decide."""
    jobs = resources.jobs()
    job = jobs.get(key)
    if job is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
        return job
    return jobs.submit(key, title, work, link=link)


def _submitted_again(key: str, title: str, work: Callable[[Any], None], *, link: str) -> Job[None]:
    """As `_submitted`, when the result of an earlier job has made room for others since."""
    job = resources.jobs().get(key)
    if job is not None and job.state is JobState.DONE:
        resources.jobs().forget(key)
    return _submitted(key, title, work, link=link)


def _shown(job: Job[Any]) -> None:
    jobs = resources.jobs()
    if not job.state.finished:
        rerun_when(
            lambda: job.state.finished,
            draw=lambda: jobs_panel.draw_job(job.view(), jobs, place=f"map{job.id}"),
        )
        return
    if job.state is JobState.DONE:
        st.rerun()
    view = job.view()
    if view.error:
        st.error(escape_markdown(view.error), icon=":material/error:")
    else:
        st.info("This was cancelled.", icon=":material/cancel:")
    st.button("Try again", key=f"again_{view.id}", on_click=lambda: jobs.forget(job.key))
