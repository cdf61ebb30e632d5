"""Fetching Neuronpedia's descriptions of some SAEs: at a click, with progress, and once more."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.jobs import JobState
from core.view.markup import escape_markdown
from pages.parts import jobs_panel, tasks
from pages.parts.polling import rerun_when

if TYPE_CHECKING:
    from core.descriptions.table import Descriptions


def fetched_descriptions(saes: Mapping[str, SaeEntry]) -> "dict[str, Descriptions]":
    """What was fetched for these SAEs, on whichever page, since the start of the explorer."""
    published = resources.published_descriptions()
    found = {name: published.get(_place(entry)) for name, entry in saes.items()}
    return {name: one for name, one in found.items() if one is not None}


def n_fetched() -> int:
    """Of how many SAEs descriptions were fetched since the start of the explorer."""
    return resources.published_descriptions().n_of_all()


def draw_fetch_button(saes: Mapping[str, SaeEntry], widths: Mapping[str, int]) -> None:
    """A button, the progress of what it began, or why that failed; nothing once it is done.

    `saes` are under names of the page's choice, as are their numbers of latents, `widths`.
    """
    wanted = {name: sae for name, sae in saes.items() if sae.neuronpedia_id is not None}
    if len(fetched_descriptions(wanted)) == len(wanted):
        return
    jobs, store = resources.jobs(), resources.store()
    key = "neuronpedia:" + ",".join(sorted(map(_place, wanted.values())))

    def work(progress: Any, ask_again: bool) -> None:
        from core.descriptions.sources import fetch_published

        ids = {name: entry.neuronpedia_id for name, entry in wanted.items()}
        found = fetch_published(store, ids, widths, progress, ask_again=ask_again)
        for name, descriptions in found.items():
            resources.published_descriptions().put(_place(wanted[name]), descriptions)

    def fetch(*, ask_again: bool = False) -> None:
        tasks.forget(key)
        title = "Descriptions from Neuronpedia"
        tasks.attempt(lambda: tasks.submit(key, title, lambda progress: work(progress, ask_again)))

    job = tasks.found(key)
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
            draw=lambda: jobs_panel.draw_job(jobs.view(job), jobs, place="neuronpedia"),
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


def _place(entry: SaeEntry) -> str:
    return f"{entry.release}:{entry.sae_id}:{entry.version}"
