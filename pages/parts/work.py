"""Long work behind a page: a job shared by all sessions, its progress in place, its result."""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from core import resources
from core.jobs import Job, JobState
from core.view.markup import escape_markdown
from core.view.warm_up import problem_of
from pages.parts import jobs_panel
from pages.parts.polling import rerun_when, reserve_room

T = TypeVar("T")


def libraries_ready(*, room: int) -> bool:
    """Whether torch and its like are imported; else says so and keeps `room` pixels free."""
    libraries = resources.warm_up().libraries
    if not libraries.done():
        text = "Starting: loading the libraries that run models. This takes some seconds…"
        rerun_when(libraries.done, draw=lambda: st.caption(text))
        reserve_room(room)
        return False
    problem = problem_of(libraries)
    if problem is not None:
        st.error(escape_markdown(problem), icon=":material/error:")
        return False
    return True


def result(
    key: str,
    title: str,
    work: Callable[[Any], T],
    *,
    wait: float = 0.5,
    link: str | None = None,
) -> T | None:
    """What a job returns, or None while it runs, failed or was stopped, which is then shown.

    `key` names the work and all its inputs: sessions that ask for the same share one job. `link`
    leads from the list of running tasks back to the view that asked.
    """
    job = submitted(key, title, work, link=link)
    job.wait(wait)
    if job.state is JobState.DONE:
        return job.result()
    shown(job)
    return None


def recent_result(
    key: str,
    title: str,
    work: Callable[[Any], Any],
    *,
    wait: float = 0.5,
    link: str | None = None,
    room: int = 0,
) -> Any:
    """As `result`, of a large one that stays in memory only while it is among those used last.

    Where it is there, nothing is asked; else the job makes it (from the store, if it was made
    before, and then it is mostly there within `wait` seconds). While it runs, `room` pixels are
    kept free for what will stand there.
    """
    recent = resources.recent()
    found = recent.get(key)
    if found is not None:
        return found
    job = submitted_again(key, title, lambda progress: recent.put(key, work(progress)), link=link)
    job.wait(wait)
    found = recent.get(key)
    if found is None:
        shown(job)
        if room and not job.state.finished:
            reserve_room(room)
    return found


def submitted(key: str, title: str, work: Callable[[Any], T], *, link: str | None = None) -> Job[T]:
    """The job of `key`; a failed or cancelled one stays, for the reader to decide."""
    jobs = resources.jobs()
    job = jobs.get(key)
    if job is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
        return job
    return jobs.submit(key, title, work, link=link)


def submitted_again(
    key: str, title: str, work: Callable[[Any], None], *, link: str | None = None
) -> Job[None]:
    """As `submitted`, when the result of an earlier job has made room for others since."""
    job = resources.jobs().get(key)
    if job is not None and job.state is JobState.DONE:
        resources.jobs().forget(key)
    return submitted(key, title, work, link=link)


def shown(job: Job[Any]) -> None:
    """Progress of a running job; of an ended one, why there is no result and a way to repeat it."""
    jobs = resources.jobs()
    if not job.state.finished:
        rerun_when(
            lambda: job.state.finished,
            draw=lambda: jobs_panel.draw_job(job.view(), jobs, place=f"work{job.id}"),
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
