"""From a selection to a loaded model and SAE; what must be downloaded waits for a click."""

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.device import format_bytes
from core.hosting.rights import Action
from core.hub import DownloadPlan
from core.jobs import Job, JobState
from core.view import loading
from core.view.loading import LoadPlan
from core.view.markup import escape_markdown
from core.view.selection import Selection
from core.view.warm_up import problem_of
from pages.parts import jobs_panel, people, tasks
from pages.parts.polling import rerun_when

_PLAN_IS_OLD_SECONDS = 60


def is_loaded(selection: Selection) -> bool:
    """Whether the selection is in memory; answered at once."""
    libraries = resources.warm_up().libraries
    ready = libraries.done() and libraries.exception() is None
    return ready and loading.is_loaded(resources.engine(), selection)


def draw(selection: Selection, entry: SaeEntry) -> bool:
    """What is being done to load the selection, and whether that goes on without the user.

    What lies on this machine is loaded at once. Nothing is downloaded without a click.
    """
    libraries = resources.warm_up().libraries
    if not libraries.done():
        text = "Starting: loading the libraries that run models. This takes some seconds…"
        rerun_when(libraries.done, draw=lambda: _busy(text))
        return True
    problem = problem_of(libraries)
    if problem is not None:
        st.error(escape_markdown(problem), icon=":material/error:")
        return False
    key = loading.load_key(selection, entry)
    job = resources.loads().get(key)
    if job is not None and job.state is JobState.DONE:
        resources.loads().forget(key)  # it was loaded and has made room for others since
    elif job is not None:
        return _loading(job, selection, entry)
    return _planning(selection, entry)


def _planning(selection: Selection, entry: SaeEntry) -> bool:
    engine, catalog, jobs = resources.engine(), resources.catalog(), resources.loads()
    key = loading.plan_key(selection, entry)
    job = plan_job(
        key,
        f"Sizes of {selection.sae_id}",
        lambda progress: loading.plan(engine, catalog, selection, progress),
    )
    job.wait(0.1)  # local plans are made by then, and the page need not flicker
    if not job.state.finished:
        rerun_when(lambda: job.state.finished, draw=lambda: _busy("Asking what must be loaded…"))
        return True
    if job.state is JobState.DONE:
        return _planned(job.result(), selection, entry)
    _failed(job, "Try again", on_click=lambda: jobs.forget(key))
    return False


def plan_job(key: str, title: str, work: Callable[[Any], LoadPlan]) -> Job[LoadPlan]:
    """The job that finds out what must be loaded: made anew where an earlier answer has aged."""
    jobs = resources.loads()
    earlier = jobs.get(key)
    if earlier is not None:
        aged = time.time() - earlier.view().submitted_at > _PLAN_IS_OLD_SECONDS
        if aged or (earlier.state is JobState.DONE and earlier.result().outdated):
            jobs.forget(key)
    return tasks.submit(key, title, work, manager=jobs)


def _planned(plan: LoadPlan, selection: Selection, entry: SaeEntry) -> bool:
    if plan.problem is None and plan.complete and entry.source != "hub":
        return _loading(_start(selection, entry), selection, entry)
    with st.container(border=True):
        st.markdown(f"**{'Ready to load' if plan.complete else 'This must be downloaded first'}**")
        plan_table(plan)
        if plan.problem is not None:
            st.warning(escape_markdown(_capital(plan.problem)), icon=":material/warning:")
        gated = resources.catalog().model(selection.model).gated
        if gated and not plan.complete:
            st.caption(
                "The publisher of this model asks for its licence to be accepted on Hugging Face; "
                "set HF_TOKEN to a token of an account that has done so."
            )
        may_start = plan.complete or people.may(Action.DOWNLOAD)
        if not may_start:
            st.caption("Only administrators of this server may download; ask one of them.")
        label = "Load" if plan.complete else "Download and load"
        st.button(
            label,
            type="primary",
            key="download_and_load",
            icon=":material/download:",
            on_click=_start_on_click,
            args=(selection, entry, 0 if plan.complete else max(1, plan.bytes_to_download)),
            disabled=plan.problem is not None or not may_start,
        )
    return False


def plan_table(plan: LoadPlan) -> None:
    """Sizes of the model and of each SAE, and what is free."""
    several = len(plan.parts) > 2
    rows = [_plan_row("Model", plan.parts[0])]
    rows += [_plan_row(part.name if several else "SAE", part) for part in plan.parts[1:]]
    st.dataframe(rows, hide_index=True, width="stretch")
    model = plan.parts[0]
    st.caption(
        f"Device {model.device}, model in {model.dtype}, SAE in {plan.parts[1].dtype}. "
        f"Free: {format_bytes(model.memory_free)} of memory, {format_bytes(model.disk_free)} of "
        "disk."
    )


def _plan_row(what: str, part: DownloadPlan) -> dict[str, str]:
    """One line of the table; offline, sizes of what is not here are not known."""
    known = all(file.size is not None for file in part.files)
    figures = {
        "Size": part.bytes_total,
        "To download": part.bytes_to_download,
        "Memory while loading": part.memory_needed,
        "Memory afterwards": part.bytes_in_memory,
    }
    if not part.files:  # a folder of this machine
        del figures["Size"]
    return {"": what} | {
        name: format_bytes(n_bytes) if known else "unknown" for name, n_bytes in figures.items()
    }


def _start(selection: Selection, entry: SaeEntry) -> Job[None]:
    engine, jobs = resources.engine(), resources.loads()
    jobs.forget(loading.plan_key(selection, entry))
    return tasks.submit(
        loading.load_key(selection, entry),
        f"Loading {selection.sae_id} with {selection.model}",
        lambda progress: loading.load(engine, selection, progress),
        manager=jobs,
    )


def _start_on_click(selection: Selection, entry: SaeEntry, n_bytes: int) -> None:
    def start() -> None:
        if n_bytes:
            people.require(Action.DOWNLOAD)
            what = f"{selection.sae_id} with {selection.model}"
            resources.audit().write(people.current(), "download", what=what, bytes=n_bytes)
        _start(selection, entry)

    tasks.attempt(start)


def _loading(job: Job[None], selection: Selection, entry: SaeEntry) -> bool:
    jobs, key = resources.loads(), loading.load_key(selection, entry)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        _failed(job, "Back", on_click=lambda: jobs.forget(key))
        return False
    job.wait(0.3)  # small models are there by then
    if job.state is JobState.DONE:
        st.rerun()
    rerun_when(
        lambda: job.state.finished,
        draw=lambda: jobs_panel.draw_job(jobs.view(job), jobs, place="load"),
    )
    return True


def _failed(job: Job[Any], label: str, *, on_click: Callable[[], None]) -> None:
    view = job.view()
    sentence = view.error or "This was cancelled."
    st.error(escape_markdown(sentence), icon=":material/error:")
    st.button(label, key=f"retry_{view.id}", on_click=on_click)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _busy(text: str) -> None:
    st.caption(text)
