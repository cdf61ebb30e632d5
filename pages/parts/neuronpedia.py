"""Fetching Neuronpedia's descriptions of some SAEs: at a click, with progress, and once more."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.jobs import JobState
from core.view.markup import escape_markdown
from pages.parts import jobs_panel
from pages.parts.polling import rerun_when

if TYPE_CHECKING:
    from core.descriptions.table import Descriptions
    from core.view.splitting.members import Member


def fetched(key: str) -> "dict[str, Descriptions]":
    """What the job of `key` has fetched since the start of the explorer, by label."""
    job = resources.jobs().get(key)
    return job.result() if job is not None and job.state is JobState.DONE else {}


def fetching(key: str, members: "Sequence[Member]", widths: Mapping[str, int]) -> None:
    """A button, the progress of what it began, or why that failed; nothing once it is done.

    `widths` are the latents of each member, by label.
    """
    jobs, store = resources.jobs(), resources.store()

    def fetch(*, ask_again: bool = False) -> None:
        from core.view.splitting.texts import fetch_published

        jobs.forget(key)
        jobs.submit(
            key,
            "Descriptions from Neuronpedia",
            lambda progress: fetch_published(store, members, widths, progress, ask_again=ask_again),
        )

    job = jobs.get(key)
    if job is None:
        st.button(
            "Fetch descriptions from Neuronpedia",
            icon=":material/cloud_download:",
            key="neuronpedia_fetch",
            on_click=fetch,
        )
    elif not job.state.finished:
        rerun_when(
            lambda: job.state.finished,
            draw=lambda: jobs_panel.draw_job(job.view(), jobs, place="neuronpedia"),
        )
    elif job.state is not JobState.DONE:
        error = job.view().error
        sentence = (
            f"Neuronpedia's descriptions could not be fetched: {error}"
            if error
            else "Fetching Neuronpedia's descriptions was cancelled; what came is kept."
        )
        st.warning(escape_markdown(sentence), icon=":material/cloud_off:")
        st.button(
            "Try again",
            icon=":material/refresh:",
            key="neuronpedia_again",
            on_click=lambda: fetch(ask_again=True),
        )
