"""Long work behind a page: a job shared by all sessions, its progress in place, its result."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from core import resources
from core.jobs import Job, JobState
from core.view.markup import escape_markdown
from core.view.selection import Selection
from core.view.warm_up import problem_of
from pages.parts import jobs_panel, tasks
from pages.parts.polling import rerun_when, reserve_room

if TYPE_CHECKING:  # brings torch
    from core.lease import Lease

T = TypeVar("T")
Partly = Callable[[Any, bool], object]
"""Draws what a job has published of its result, and is told whether the job has ended."""


def lease(
    selection: Selection, *, others: Iterable[tuple[str, str]] = (), progress: Any = None
) -> "Lease":
    """The selected model with the selected SAE, then `others`; `progress` is that of a job."""
    names = [selection.sae, *others]
    return resources.engine().lease(selection.model, names, progress=progress)


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
    job = submit(key, title, work, link=link)
    job.wait(wait)
    if job.state is JobState.DONE:
        return job.result()
    draw_job(job)
    return None


def recent_result(
    key: str,
    title: str,
    work: Callable[[Any], Any],
    *,
    wait: float = 0.5,
    link: str | None = None,
    room: int = 0,
    partly: Partly | None = None,
) -> Any:
    """As `result`, of a large one that stays in memory only while it is among those used last.

    Where it is there, nothing is asked; else the job makes it (from the store, if it was made
    before, and then it is mostly there within `wait` seconds). While it runs, `room` pixels are
    kept free for what will stand there; or `partly` draws what is there of it, also once the job
    was stopped or failed.
    """
    recent = resources.recent()
    found = recent.get(key)
    if found is not None:
        return found
    job = submit_again(key, title, lambda progress: recent.put(key, work(progress)), link=link)
    job.wait(wait)
    found = recent.get(key)
    if found is None:
        draw_job(job, partly)
        if room and not job.state.finished and partly is None:
            reserve_room(room)
    return found


@dataclass(frozen=True)
class Kept:
    """A result, or the one before it."""

    result: Any
    """The result; None where there is neither."""
    asked: Any
    """What was asked for it."""
    is_current: bool
    """Whether it is the one that is asked for now."""


def recent_or_last(
    key: str,
    title: str,
    work: Callable[[Any], Any],
    *,
    asked: Any,
    place: str,
    subject: Any,
    link: str | None = None,
    room: int = 0,
) -> Kept:
    """As `recent_result`; until it is there, the last one that stood at `place` in this session.

    A reader who changes a setting goes on looking at what was there, below the progress of what
    comes. `subject` is what must be the same for that to make sense, such as the model and the
    prompt; `asked` is given back with the result that it led to.
    """
    before = last_one(asked, place=place, subject=subject)
    room = 0 if before.result is not None else room
    found = recent_result(key, title, work, link=link, room=room)
    if found is not None:
        st.session_state[place] = (subject, key, asked)
        return Kept(found, asked, is_current=True)
    if before.result is not None:
        st.caption("Below is what was there before; it stays until the new one is ready.")
    return before


def last_one(asked: Any, *, place: str, subject: Any) -> Kept:
    """What `recent_or_last` showed last at `place`, of the same subject; no result if nothing."""
    last: tuple[Any, str, Any] | None = st.session_state.get(place)
    before = resources.recent().get(last[1]) if last and last[0] == subject else None
    if before is None or last is None:
        return Kept(None, asked, is_current=False)
    return Kept(before, last[2], is_current=False)


def submit(key: str, title: str, work: Callable[[Any], T], *, link: str | None = None) -> Job[T]:
    """The job of `key`; a failed or cancelled one stays, for the reader to decide."""
    job = tasks.found(key)
    if job is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
        return job
    return tasks.submit(key, title, work, link=link)


def submit_again(
    key: str, title: str, work: Callable[[Any], None], *, link: str | None = None
) -> Job[None]:
    """As `submit`, when the result of an earlier job has made room for others since."""
    job = tasks.found(key)
    if job is not None and job.state is JobState.DONE:
        resources.jobs().forget(job.key)
    return submit(key, title, work, link=link)


def draw_job(job: Job[Any], partly: Partly | None = None) -> None:
    """Progress of a running job; of an ended one, why there is no result and a way to repeat it.

    Below it `partly` draws what the work has published.
    """
    jobs = resources.jobs()

    def draw() -> None:
        jobs_panel.draw_job(jobs.view(job), jobs, place=f"work{job.id}")
        if partly is not None and job.progress.partial is not None:
            partly(job.progress.partial, False)

    if not job.state.finished:
        rerun_when(lambda: job.state.finished, draw=draw, every=1.0 if partly is None else 0.5)
        return
    if job.state is JobState.DONE:
        st.rerun()
    view = job.view()
    if view.error:
        st.error(escape_markdown(view.error), icon=":material/error:")
    else:
        st.info("This was cancelled.", icon=":material/cancel:")
    st.button("Try again", key=f"again_{view.id}", on_click=lambda: tasks.forget(job.key))
    if partly is not None and job.progress.partial is not None:
        partly(job.progress.partial, True)
