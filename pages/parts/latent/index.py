"""The index behind the page: opened, made unasked for the demo, else offered."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.jobs import JobState
from core.store import JSON, Key
from core.view.latent.corpora import corpus_of, parse_corpus
from core.view.latent.page_view import LatentPageView
from core.view.selection import Selection
from pages.parts import latent_links, text_choice, view_state, weights, work
from pages.parts.latent import state
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.activations.text_index import IndexRequest, OpenIndex
    from core.view.latent.about_all import AboutAll

UNASKED_TOKENS = 300_000
"""The demo reads up to so many tokens without being asked."""
_ASKED = "latent_asked"
_ROOM = 500
_FAILED = (JobState.FAILED, JobState.CANCELLED)


def resolved(selection: Selection, entry: SaeEntry, view: LatentPageView) -> LatentPageView:
    """The view with its text named: what the link says, else what this SAE was last read on."""
    if view.corpus:
        return view
    default = state.LINK.default
    last: Any = None
    if (view.tokens, view.include_bos) == (default.tokens, default.include_bos):
        last = resources.store().get(_last_key(selection, entry), JSON)
    return replace(view, **(last or {"corpus": "docs"}))


def request_of(
    selection: Selection, entries: "list[SaeEntry]", view: LatentPageView
) -> "IndexRequest":
    """What the view asks for. Raises ValueError for a text that cannot be had."""
    from core.activations.text_index import IndexRequest

    return IndexRequest(
        model=selection.model,
        saes=tuple((*it.key, it.version) for it in entries),
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
    job = resources.jobs().get(request.key)
    if job is not None and job.state in _FAILED:
        resources.jobs().forget(request.key)
    st.session_state[_ASKED] = request.key


def opened(
    selection: Selection, entry: SaeEntry, view: LatentPageView, *, quiet: bool = False
) -> "OpenIndex | None":
    """The index of the selected SAE on the text of the view, or None.

    None while it is being made, which is then shown, or when nobody has asked for it. With
    `quiet`, nothing is started or shown.
    """
    view = resolved(selection, entry, view)
    request = request_of(selection, [entry], view)
    found = resources.recent().get(request.key)
    if found is not None or quiet:
        return found
    wanted = _wanted(request, selection, view)
    if wanted is None or not _weights_ready(selection, wanted):
        return None
    engine, store = resources.engine(), resources.store()
    last_key = _last_key(selection, entry)
    last = {name: getattr(view, name) for name in ("corpus", "tokens", "include_bos")}

    def make(progress: Any) -> None:
        from core.activations.text_index import make_index

        names = [(release, sae_id) for release, sae_id, _ in wanted.saes]
        lease = engine.lease(wanted.model, names, progress=progress)
        for number, index in enumerate(make_index(lease, store, wanted)):
            resources.recent().put(wanted.only(number).key, index)
        store.put(last_key, last, JSON)

    n = len(wanted.saes)
    title = f"Reading {view.tokens:,} tokens" + (f" with {n} SAEs" if n > 1 else "")
    link = latent_links.address("latent", selection, **state.LINK.to_parameters(view))
    job = work.submitted_again(wanted.key, title, make, link=link)
    job.wait(0.5)  # an index that was made before is open by then
    found = resources.recent().get(request.key)
    if found is None:
        work.shown(job)
        if not job.state.finished:
            reserve_room(_ROOM)
    return found


def under_way(selection: Selection, entry: SaeEntry, view: LatentPageView) -> bool:
    """Whether the index that the view asks for is being made, or waits for an answer."""
    view = resolved(selection, entry, view)
    try:
        wanted = _wanted(request_of(selection, [entry], view), selection, view)
    except ValueError:
        return False
    job = resources.jobs().get(wanted.key) if wanted is not None else None
    return wanted is not None and (job is None or job.state not in _FAILED)


def known_about(index: "OpenIndex") -> "AboutAll | None":
    """What is said of all latents of an index, if that is at hand."""
    return resources.recent().get(_about_key(index))


def about(selection: Selection, index: "OpenIndex") -> "AboutAll | None":
    """Descriptions of all latents of an index; made in the background, which is then shown."""
    from core.view.latent.about_all import about_all

    engine, store = resources.engine(), resources.store()
    return work.recent_result(
        _about_key(index),
        "Describing all latents",
        lambda it: about_all(engine, store, selection.model, selection.sae, index, it),
        wait=0.3,
        link=latent_links.address("latent", selection),
    )


def _wanted(
    request: "IndexRequest", selection: Selection, view: LatentPageView
) -> "IndexRequest | None":
    """What is read to get this index: all SAEs of the release, this one, or nothing."""
    from core.activations.text_index import was_made

    everything = request_of(selection, release_entries(selection), view)
    job = resources.jobs().get(everything.key)
    running = job is not None and not job.state.finished
    asked = st.session_state.get(_ASKED)
    if running or asked == everything.key:
        return everything
    small = resources.catalog().model(selection.model).source == "demo"
    unasked = small and view.tokens <= UNASKED_TOKENS
    started = resources.jobs().get(request.key) is not None
    if unasked or started or asked == request.key or was_made(resources.store(), request):
        return request
    return None


def _weights_ready(selection: Selection, wanted: "IndexRequest") -> bool:
    """Whether all SAEs of a request are here or may be fetched: asked before any download."""
    if len(wanted.saes) == 1 or resources.jobs().get(wanted.key) is not None:
        return True
    keys = {(release, sae_id) for release, sae_id, _ in wanted.saes}
    entries = [it for it in release_entries(selection) if it.key in keys]
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


def _last_key(selection: Selection, entry: SaeEntry) -> Key:
    parameters = {"model": selection.model, "sae": [*entry.key, entry.version]}
    return Key("latent-index-last", 1, parameters)
