"""The index behind the page: opened, made unasked for the demo, else offered."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.jobs import JobState
from core.latent.last_text import SaeOfModel, last_text, note_last_text
from core.latent.view import LINK, LatentPageView
from core.view.corpora import corpus_of, parse_corpus
from core.view.selection import Selection
from pages.parts import job_results, latent_links, tasks, text_choice, view_state, weights
from pages.parts.latent import session
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.activations.text_index import IndexRequest, OpenIndex
    from core.latent.all_latents import AllLatents

UNASKED_TOKENS = 300_000
"""The demo reads up to so many tokens without being asked."""
_ASKED = "latent_asked"
_ROOM = 500
_FAILED = (JobState.FAILED, JobState.CANCELLED)


def resolve_text(selection: Selection, entry: SaeEntry, view: LatentPageView) -> LatentPageView:
    """The view with its text named: what the link says, else what this SAE was last read on."""
    if view.corpus:
        return view
    default = LINK.default
    last: Any = None
    if (view.tokens, view.include_bos) == (default.tokens, default.include_bos):
        last = last_text(resources.store(), _named(selection, entry))
    return replace(view, **(last or {"corpus": "docs"}))


def request_of(
    selection: Selection, entries: "list[SaeEntry]", view: LatentPageView
) -> "IndexRequest":
    """What the view asks for. Raises ValueError for a text that cannot be had."""
    from core.activations.text_index import IndexRequest

    return IndexRequest(
        model=selection.model,
        saes=tuple((*entry.key, entry.version) for entry in entries),
        corpus=corpus_of(parse_corpus(view.corpus), text_choice.uploads()),
        tokens=view.tokens,
        include_bos=view.include_bos,
    )


def release_entries(selection: Selection) -> list[SaeEntry]:
    """SAEs of the selection's release that can be used with its model."""
    choices = view_state.current().choices
    return list(choices.saes_for(selection.release, selection.model))


def ask(request: "IndexRequest") -> None:
    """Have this read from the next run on; for callbacks."""
    job = tasks.found(request.key)
    if job is not None and job.state in _FAILED:
        tasks.forget(job.key)
    st.session_state[_ASKED] = request.key


def open_index(selection: Selection, entry: SaeEntry, view: LatentPageView) -> "OpenIndex | None":
    """The index of the selected SAE on the text of the view, or None.

    None while it is being made, which is then shown, or when nobody has asked for it.
    """
    view = resolve_text(selection, entry, view)
    request = request_of(selection, [entry], view)
    found = resources.recent().get(request.key)
    if found is not None:
        return found
    wanted = _wanted(request, selection, view)
    if wanted is None or not _weights_ready(selection, wanted):
        return None
    engine, store = resources.engine(), resources.store()
    named = _named(selection, entry)
    last = {name: getattr(view, name) for name in ("corpus", "tokens", "include_bos")}

    def make(progress: Any) -> None:
        from core.activations.text_index import make_index

        names = [(release, sae_id) for release, sae_id, _ in wanted.saes]
        lease = engine.lease(wanted.model, names, progress=progress)
        for number, index in enumerate(make_index(lease, store, wanted)):
            resources.recent().put(wanted.only(number).key, index)
        note_last_text(store, named, **last)

    n = len(wanted.saes)
    title = f"Reading {view.tokens:,} tokens" + (f" with {n} SAEs" if n > 1 else "")
    link = latent_links.address("latent", selection, **LINK.to_parameters(view))
    job = job_results.submit_again(wanted.key, title, make, link=link)
    job.wait(0.5)  # an index that was made before is open by then
    found = resources.recent().get(request.key)
    if found is None:
        job_results.draw_job(job)
        if not job.state.finished:
            reserve_room(_ROOM)
    return found


def is_being_made(selection: Selection, entry: SaeEntry, view: LatentPageView) -> bool:
    """Whether the index that the view asks for is being made, or waits for an answer."""
    view = resolve_text(selection, entry, view)
    try:
        wanted = _wanted(request_of(selection, [entry], view), selection, view)
    except ValueError:
        return False
    job = tasks.found(wanted.key) if wanted is not None else None
    return wanted is not None and (job is None or job.state not in _FAILED)


def open_if_made(selection: Selection, entry: SaeEntry) -> "OpenIndex | None":
    """The index of the dashboard if it was made before; being read from the store, it is on its
    way and None."""
    from core.activations.text_index import was_ever_made

    view = resolve_text(selection, entry, session.current())
    request = request_of(selection, [entry], view)
    found = resources.recent().get(request.key)
    if found is not None:
        return found
    return open_index(selection, entry, view) if was_ever_made(resources.store(), request) else None


def any_being_made() -> bool:
    """Whether an index is being made or opened, which the page then shows."""
    return any(
        job.key.startswith("latent-index:") and not job.state.finished
        for job in resources.jobs().jobs()
    )


def all_latents(selection: Selection, index: "OpenIndex") -> "AllLatents | None":
    """Descriptions of all latents of an index; made in the background, which is then shown."""
    from core.latent.all_latents import all_latents

    store = resources.store()
    return job_results.recent_result(
        _about_key(index),
        "Describing all latents",
        lambda progress: all_latents(job_results.lease(selection, progress=progress), store, index),
        wait=0.3,
        link=latent_links.address("latent", selection),
    )


def recent_all_latents(index: "OpenIndex") -> "AllLatents | None":
    """What is said of all latents of an index, if that was made since the start."""
    return resources.recent().get(_about_key(index))


def offline_texts(index: "OpenIndex") -> Sequence[str] | None:
    """An offline description of each latent, if those are at hand."""
    found = recent_all_latents(index)
    return None if found is None else [str(text or "") for text in found.offline.texts]


def _wanted(
    request: "IndexRequest", selection: Selection, view: LatentPageView
) -> "IndexRequest | None":
    """What is read to get this index: all SAEs of the release, this one, or nothing."""
    from core.activations.text_index import was_ever_made

    everything = request_of(selection, release_entries(selection), view)
    job = tasks.found(everything.key)
    running = job is not None and not job.state.finished
    asked = st.session_state.get(_ASKED)
    if running or asked == everything.key:
        return everything
    small = resources.catalog().model(selection.model).source == "demo"
    # A link alone must not make the server fetch a dataset of somebody's choice.
    here = parse_corpus(view.corpus).kind != "hub"
    unasked = small and here and view.tokens <= UNASKED_TOKENS
    started = tasks.found(request.key) is not None
    if unasked or started or asked == request.key or was_ever_made(resources.store(), request):
        return request
    return None


def _weights_ready(selection: Selection, wanted: "IndexRequest") -> bool:
    """Whether all SAEs of a request are here or may be fetched: asked before any download."""
    if len(wanted.saes) == 1 or tasks.found(wanted.key) is not None:
        return True
    keys = {(release, sae_id) for release, sae_id, _ in wanted.saes}
    entries = [entry for entry in release_entries(selection) if entry.key in keys]
    if weights.ready(selection.model, entries, then="Download and read"):
        return True
    st.button(
        "Not now",
        key="latent_not_all",
        on_click=lambda: st.session_state.pop(_ASKED, None),
    )
    return False


def _about_key(index: "OpenIndex") -> str:
    return "latent-about:" + index.key.digest


def _named(selection: Selection, entry: SaeEntry) -> SaeOfModel:
    return (selection.model, *entry.key, entry.version)
