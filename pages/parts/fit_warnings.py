"""The fit check on the card: started once the SAE is loaded, never waited for."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.jobs import Job, JobState
from core.latent.view import LINK
from core.view.corpora import CorpusChoice, corpus_of, parse_corpus
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import job_results, latent_links, tasks, text_choice
from pages.parts.latent import index
from pages.parts.polling import rerun_when

if TYPE_CHECKING:
    from core.corpus.documents import Corpus
    from core.fit_check.on_text import FitOnText, FitRequest


def result(selection: Selection, entry: SaeEntry) -> "FitOnText | None":
    """What the check found; None while it runs or where it failed. The SAE must be loaded."""
    request = _request(selection, entry)
    known = resources.recent_fits().get(request.key)
    if known is None:
        _job(request, selection).wait(0.2)  # one that was made before is there by then
        known = resources.recent_fits().get(request.key)
    return known


def is_running(selection: Selection, entry: SaeEntry) -> bool:
    """Whether the check is under way."""
    job = tasks.found(_request(selection, entry).key)
    return job is not None and not job.state.finished


def draw(selection: Selection, entry: SaeEntry) -> None:
    """Warnings of the check, once there are any; it must have been asked for by `result`."""
    request = _request(selection, entry)
    known = resources.recent_fits().get(request.key)
    if known is not None:
        for sentence in known.check.warnings:
            st.warning(escape_markdown(sentence), icon=":material/wrong_location:")
        for note in known.check.notes:
            st.caption(escape_markdown(note))
        return
    job = tasks.found(request.key)
    if job is None or job.state is JobState.DONE:
        return
    if not job.state.finished:
        rerun_when(lambda: job.state.finished, draw=lambda: None)  # the card's lines say so
        return
    reason = job.view().error or "it was cancelled."
    st.caption(
        "Whether this SAE is read where it was trained could not be checked: "
        + escape_markdown(reason)
    )
    st.button(
        "Check again",
        key="fit_again",
        on_click=lambda: tasks.forget(job.key),
    )


def _job(request: "FitRequest", selection: Selection) -> Job[None]:
    engine, store, recent = resources.engine(), resources.store(), resources.recent_fits()

    def make(progress: Any) -> None:
        from core.fit_check.on_text import run_fit_check

        lease = engine.lease(request.model, [request.sae], progress=progress)
        recent.put(request.key, run_fit_check(lease, store, request))

    title = f"Checking the fit of {selection.sae_id}"
    link = latent_links.address("", selection)
    return job_results.submit_again(request.key, title, make, link=link)


def _request(selection: Selection, entry: SaeEntry) -> "FitRequest":
    from core.fit_check.on_text import FitRequest  # brings torch, so not before it is there

    return FitRequest(
        model=selection.model,
        sae=selection.sae,
        version=entry.version,
        corpus=_corpus(selection, entry),
        declared_l0=entry.l0,
        conversion=entry.conversion,
    )


def _corpus(selection: Selection, entry: SaeEntry) -> "Corpus":
    """The text that this SAE was read on last; the docs sample where that must be fetched."""
    choice = parse_corpus(index.resolve_text(selection, entry, LINK.default).corpus)
    if choice.kind in ("file", "text"):
        try:
            return corpus_of(choice, text_choice.uploads())
        except ValueError:
            pass  # it is not on this server any more
    return corpus_of(CorpusChoice(), text_choice.uploads())
