"""A piece of work behind a button of the dossier: offered, under way, or failed."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from core import resources
from core.jobs import JobState
from pages.parts import action, job_results, tasks


def draw(
    label: str,
    *,
    button: str,
    key: str,
    title: str,
    work: Callable[[Any], None],
    link: str,
    kind: str = "secondary",
    may: Callable[[], None] | None = None,
) -> None:
    """The button, and behind it how far its job is; the page is drawn again once it is done.

    `work` is given the job's progress and keeps what it makes in the store; `may` raises for those
    who may not ask for it.
    """
    job = tasks.found(key)
    if job is not None and job.state is not JobState.DONE:
        job_results.draw_job(job)
        return

    def start() -> None:
        if may is not None:
            may()
        if job is not None:
            tasks.forget(key)
        tasks.submit(key, title, work, link=link)

    icon = ":material/play_arrow:"
    if action.clicked(label, type=kind, icon=icon, key=button):
        tasks.attempt(start)
        st.rerun()


def lease_of(progress: Any) -> Callable[[str, Any], Any]:
    """Leases of the engine that all report to one job's progress."""
    engine = resources.engine()

    def lend(model: str, saes: Any) -> Any:
        return engine.lease(model, saes, progress=progress)

    return lend
