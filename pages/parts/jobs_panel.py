"""What is being computed in the background, for everybody who uses this explorer."""

import streamlit as st

from core import resources
from core.device import format_bytes
from core.jobs import JobManager, JobState, JobView
from core.view.markup import escape_markdown

_MOST_FINISHED = 5
_STATES = {
    JobState.QUEUED: "waiting for its turn",
    JobState.RUNNING: "running",
    JobState.DONE: "finished",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def draw() -> None:
    """The list of jobs; looks again every second while one is running."""
    active = any(not view.state.finished for _, view in _listed())
    st.fragment(_refreshing if active else _list, run_every=1.0 if active else None)()


def draw_job(view: JobView, jobs: JobManager, *, place: str) -> None:
    """One job: how far it is, how fast, how long still, and a way to stop it."""
    if view.state.finished:
        st.markdown(f"{escape_markdown(view.title)}: {_STATES[view.state]}")
        if view.error:
            st.error(escape_markdown(view.error), icon=":material/error:")
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.progress(view.fraction or 0.0, text=escape_markdown(_progress_text(view)))
        st.button(
            "Stopping…" if view.cancelling else "Cancel",
            key=f"cancel_{place}_{view.id}",
            on_click=_cancel,
            args=(jobs, view.key),
            disabled=view.cancelling,
        )


def _cancel(jobs: JobManager, key: str) -> None:
    jobs.cancel(key)


def _refreshing() -> None:
    if all(view.state.finished for _, view in _listed()):
        st.rerun()
    _list()


def _list() -> None:
    listed = _listed()
    active = [it for it in listed if not it[1].state.finished]
    finished = [it for it in listed if it[1].state.finished]
    if not listed:
        st.caption("Nothing is running.")
    for jobs, view in active + finished[:_MOST_FINISHED]:
        draw_job(view, jobs, place="list")


def _listed() -> list[tuple[JobManager, JobView]]:
    """Computations, and loads that have not simply succeeded; newest first."""
    computing, loading = resources.jobs(), resources.loads()
    pairs = [(computing, view) for view in computing.jobs()]
    pairs += [
        (loading, view)
        for view in loading.jobs()
        if view.state is not JobState.DONE and not view.key.startswith("plan:")
    ]
    return sorted(pairs, key=lambda pair: -pair[1].submitted_at)


def _progress_text(view: JobView) -> str:
    parts = [view.title]
    if view.state is JobState.QUEUED:
        parts.append(_STATES[view.state])
    if view.message:
        parts.append(view.message)
    if view.total:
        parts.append(f"{_amount(view.done, view.unit)} of {_amount(view.total, view.unit)}")
    if view.rate and view.unit != "bytes":
        parts.append(f"{_amount(view.rate, view.unit)}/s")
    if view.eta_seconds is not None:
        parts.append(f"{_duration(view.eta_seconds)} left")
    return " · ".join(parts)


def _amount(number: float, unit: str) -> str:
    return format_bytes(number) if unit == "bytes" else f"{number:,.0f} {unit}".strip()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
