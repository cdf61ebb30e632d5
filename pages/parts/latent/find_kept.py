"""What was kept of every firing: how much, of what, and buttons to make it and to delete it."""

import hashlib
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.device import format_bytes
from core.hosting.rights import Action
from core.jobs import JobState
from core.latent.view import LatentPageView
from core.view.markup import escape_markdown, n_of
from core.view.selection import Selection
from pages.parts import action, job_results, latent_links, people, tasks
from pages.parts.latent import index

if TYPE_CHECKING:
    from core.activations.text_index import IndexRequest
    from core.firings.kept import Kept


def of_text(selection: Selection, entries: list[SaeEntry], page: LatentPageView) -> "list[Kept]":
    """Firings of these SAEs on the text of the page."""
    from core.firings.kept import kept_firings

    request = index.request_of(selection, entries, page)
    wanted = set(request.saes)
    found = kept_firings(resources.store().directory, model=selection.model)
    return [one for one in found if one.about.sae in wanted and one.is_of(request)]


def draw(
    selection: Selection,
    entries: list[SaeEntry],
    kept: "list[Kept]",
    page: LatentPageView,
) -> None:
    """The panel."""
    request = index.request_of(selection, entries, page)
    have = {one.about.sae for one in kept}
    missing = [entry for entry in entries if (*entry.key, entry.version) not in have]
    title = (
        f"Every firing is kept of {len(have)} of {n_of(len(entries), 'SAE')} on "
        f"{request.tokens:,} tokens of {request.corpus.name}"
    )
    with st.expander(escape_markdown(title), icon=":material/database:", expanded=not kept):
        st.caption(
            "All activations above 0, as Parquet files of row, position, latent and value, sorted: "
            "exact rates, and searches over all SAEs without the model. The text is the one of the "
            "dashboard."
        )
        action.shown("find_delete")
        if missing:
            _offer(selection, missing, page)
        if kept:
            size = sum(one.n_bytes for one in kept)
            n = sum(int(one.totals.count.sum()) for one in kept)
            st.caption(f"{n:,} firings take {format_bytes(size)} in {kept[0].folder.parent}.")
            if people.may(Action.CHANGE_OTHERS):
                action.button(
                    f"Delete these {format_bytes(size)}",
                    lambda: _delete(kept),
                    key="find_delete",
                    icon=":material/delete:",
                )


def _offer(selection: Selection, missing: list[SaeEntry], page: LatentPageView) -> None:
    request = index.request_of(selection, missing, page)
    names = [entry.key for entry in missing]
    engine, store = resources.engine(), resources.store()
    digest = hashlib.sha256(request.key.encode()).hexdigest()[:24]
    link = latent_links.address("latent", selection, tab="find")

    def make(progress: Any) -> None:
        from core.firings.make import make_firings

        make_firings(engine.lease(selection.model, names, progress=progress), store, request)

    job = tasks.found(f"firings:{digest}")
    if job is not None and job.state is JobState.DONE:
        tasks.forget(job.key)  # it was done, and deleted since
    elif job is not None:
        job_results.draw_job(job)
        return
    is_small = resources.catalog().model(selection.model).source == "demo"
    size_key = f"firings-size:{digest}"
    known = is_small or tasks.found(size_key) or resources.recent().get(size_key)
    if not known and not action.clicked("How large would it be?", key="find_size"):
        return
    size = job_results.recent_result(
        size_key, "Measuring how much fires", lambda progress: _size(progress, request), link=link
    )
    if size is None:
        return
    what = n_of(len(missing), "SAE")
    if action.clicked(
        f"Keep every firing of {what}: about {format_bytes(size)}",
        key="find_make",
        icon=":material/save:",
        type="primary",
    ):
        title = f"Keeping every firing of {what} on {request.tokens:,} tokens"
        tasks.attempt(lambda: tasks.submit(f"firings:{digest}", title, make, link=link))
        st.rerun()


def _size(progress: Any, request: "IndexRequest") -> float:
    from core.firings.find import bytes_of

    names = [(release, sae) for release, sae, _ in request.saes]
    lease = resources.engine().lease(request.model, names, progress=progress)
    return bytes_of(lease, resources.store(), request)


def _delete(kept: "list[Kept]") -> str:
    people.require(Action.CHANGE_OTHERS)
    freed = sum(one.delete() for one in kept)
    return f"{format_bytes(freed)} are free again."
