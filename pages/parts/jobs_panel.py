"""What is being computed in the background, for everybody who uses this explorer."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import streamlit as st

from core import resources
from core.device import format_bytes
from core.hosting import rights
from core.hosting.people import Person
from core.hosting.rights import Action
from core.jobs import JobManager, JobState, JobView
from core.jobs.queue import Place
from core.usual_time import in_short
from core.view.markup import escape_markdown
from pages.parts import going, people, registry, tasks

_MOST_FINISHED = 5
_OWN_SECONDS, _OTHERS_SECONDS = 1.0, 5.0
_PASSING = ("find-collect:", "find-meaning:", "meaning:")
"""Searches, which are nobody's concern once they are over."""
WAITING = "waiting for"
"""How a job says that others have its model (`core.engine.locks`, which brings torch)."""
_STATES = {
    JobState.QUEUED: "waiting for its turn",
    JobState.RUNNING: "running",
    JobState.DONE: "finished",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def draw() -> None:
    """The list of jobs; looks again while one is running: every second for one's own, and less
    often for those of others, whose many readers would keep the server and their browsers busy."""
    person, active = people.current(), [it for _, it in _listed() if not it.state.finished]
    own = any(person.local or person.id in view.owners for view in active)
    every = (_OWN_SECONDS if own else _OTHERS_SECONDS) if active else None
    st.fragment(_refreshing if active else _list, run_every=every)()


def draw_job(view: JobView, jobs: JobManager, *, place: str) -> None:
    """One job: how far it is, how fast, how long still, and a way to stop it."""
    if view.state.finished:
        st.markdown(f"{escape_markdown(view.title)}: {_STATES[view.state]}")
        if view.error:
            st.error(escape_markdown(view.error), icon=":material/error:")
        return
    with st.container(border=True):
        _row(view, jobs, place=place, elsewhere=place == "list")
        if place != "list":  # where everything is listed anyway
            blocking = in_front(view, jobs.jobs())
            if blocking:
                st.caption("In front of it, perhaps from a tab of yours that is still open:")
            for other in blocking:
                seen = _seen_by(people.current(), other)
                _row(seen, jobs, place=f"{place}_{view.id}", elsewhere=True)


def _row(view: JobView, jobs: JobManager, *, place: str, elsewhere: bool) -> None:
    """How far one job is, a way to stop it, and a link to where it was asked for if not here."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(view.fraction or 0.0, text=escape_markdown(progress_text(view)))
        if view.link and elsewhere and tasks.may_cancel(view):  # a link may hold a typed text
            open_link(view.link, key=f"open_{place}_{view.id}")
        st.button(
            "Stopping…" if view.cancelling else "Cancel",
            key=f"cancel_{place}_{view.id}",
            on_click=tasks.cancel,
            args=(jobs, view),
            disabled=view.cancelling or not tasks.may_cancel(view),
        )


def in_front(view: JobView, everybody: Sequence[JobView]) -> list[JobView]:
    """Running jobs that this one waits for: by name where it says so, else all."""
    running = [it for it in everybody if it.state is JobState.RUNNING and it.id != view.id]
    if view.state is JobState.QUEUED:
        return running
    if not view.message.startswith(WAITING):
        return []
    return [it for it in running if f"“{it.title}”" in view.message]


def open_link(link: str, *, key: str, label: str = "Open") -> None:
    """A button that shows the page that asked for a job, in this tab."""
    parts = urlsplit(link)
    tool = next((it for it in registry.TOOLS if it.url_path == parts.path.strip("/")), None)
    if tool is not None:
        opened = st.button(
            label,
            key=key,
            icon=":material/open_in_new:",
            on_click=going.to,
            args=(tool.file, dict(parse_qsl(parts.query))),
        )
        if opened:
            st.rerun()  # a click in a fragment runs that alone


def _refreshing() -> None:
    if all(view.state.finished for _, view in _listed()):
        st.rerun()
    _list()


def _list() -> None:
    listed = _listed()
    active = [entry for entry in listed if not entry[1].state.finished]
    finished = [entry for entry in listed if entry[1].state.finished]
    if not listed:
        st.caption("Nothing is running.")
    for jobs, view in active + finished[:_MOST_FINISHED]:
        draw_job(_seen_by(people.current(), view), jobs, place="list")


def _seen_by(person: Person, view: JobView) -> JobView:
    """A job with who asked for it; of a stranger's, no more than its title and how far it is.

    What failed, and what is being read, may quote a text of theirs.
    """
    if person.local:
        return view
    if person.id in view.owners:
        return replace(view, title=f"{view.title} (yours)")
    if rights.allowed(person, Action.SEE_PEOPLE):
        return replace(view, title=f"{view.title} ({', '.join(view.owners)})")
    return replace(view, title=f"{view.title} (somebody else's)", message="", error=None)


def _listed() -> list[tuple[JobManager, JobView]]:
    """Computations, and loads that have not simply succeeded; newest first."""
    computing, loading = resources.jobs(), resources.loads()
    pairs = [
        (computing, view)
        for view in computing.jobs()
        if not (view.state.finished and view.key.startswith(_PASSING))
    ]
    pairs += [
        (loading, view)
        for view in loading.jobs()
        if view.state is not JobState.DONE and not view.key.startswith("plan:")
    ]
    return sorted(pairs, key=lambda pair: -pair[1].submitted_at)


def progress_text(view: JobView) -> str:
    """A job in one line: its title, its place in the queue, and how far it is."""
    parts = [view.title]
    if view.state is JobState.QUEUED:
        parts.append(_STATES[view.state])
        if view.place is not None:
            parts.append(_place_words(view.place))
    if view.message:
        parts.append(view.message)
    if view.total:
        parts.append(f"{_amount(view.done, view.unit)} of {_amount(view.total, view.unit)}")
    if view.rate and view.unit != "bytes":
        parts.append(f"{_amount(view.rate, view.unit)}/s")
    if view.eta_seconds is not None:
        step = " in this step" if view.of_step else ""
        parts.append(f"{in_short(view.eta_seconds)} left{step}")
    return " · ".join(parts)


def _place_words(place: Place) -> str:
    """Where a job stands in the queue, and when its turn is likely to come."""
    words = "next in the queue" if place.number == 1 else f"number {place.number} in the queue"
    return words if place.seconds is None else f"{words}, starts in about {in_short(place.seconds)}"


def _amount(number: float, unit: str) -> str:
    return format_bytes(number) if unit == "bytes" else f"{number:,.0f} {unit}".strip()
