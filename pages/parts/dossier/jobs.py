"""The job behind the page: all parts of a dossier, one after the other, each kept at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.dossier.request import PARTS, TITLES
from core.dossier.view import LINK, DossierView
from core.jobs import JobState
from core.view.selection import Selection
from pages.parts import jobs_panel, latent_links, tasks
from pages.parts.neuronpedia import fetched_descriptions
from pages.parts.polling import rerun_when

if TYPE_CHECKING:
    from core.dossier.request import DossierRequest
    from core.dossier.result import Dossier


def with_texts(requests: "Sequence[DossierRequest]") -> "list[DossierRequest]":
    """Requests on one SAE with what others say of their latents, if its weights are known."""
    from core.dossier.others import known_fingerprint, with_others

    store = resources.store()
    if not known_fingerprint(store, requests[0]):
        return list(requests)
    entry = resources.catalog().entry(*requests[0].sae_name)
    published = fetched_descriptions({"": entry}).get("")
    return with_others(store, requests, d_sae=entry.width, published=published)


def start(request: "DossierRequest", selection: Selection, page: DossierView) -> None:
    """Begin, or begin again."""
    key, title = _key(request), f"Dossier of latent {request.latent}"
    job = tasks.found(key)
    if job is not None and job.state.finished:
        tasks.forget(key)
    link = _link(selection, page)
    tasks.attempt(lambda: tasks.submit(key, title, _work(request), link=link))


def is_running(request: "DossierRequest") -> bool:
    """Whether the dossier is being made."""
    job = tasks.found(_key(request))
    return job is not None and not job.state.finished


def failed(request: "DossierRequest") -> str | None:
    """Why the last attempt ended early, in a sentence; None where it did not."""
    job = tasks.found(_key(request))
    if job is None or job.state not in (JobState.FAILED, JobState.CANCELLED):
        return None
    if job.state is JobState.CANCELLED:
        return "This was cancelled; what was done is kept."
    return job.view().error or "This failed."


def draw(
    request: "DossierRequest", selection: Selection, page: DossierView, dossier: "Dossier"
) -> None:
    """How far it is; the page is drawn again whenever a part is done."""
    from core.dossier.stored import open_dossier

    jobs, store = resources.jobs(), resources.store()
    job = tasks.found(_key(request))
    if job is None:
        return
    known = dossier.missing
    done = [TITLES[part] for part in PARTS if part not in known]
    waits = [TITLES[part] for part in known]
    st.caption(
        f"Done: {', '.join(done) or 'nothing yet'}. To come: {', '.join(waits) or 'nothing'}."
    )

    def changed() -> bool:
        return job.state.finished or open_dossier(store, request).missing != known

    place = f"work{job.id}"
    rerun_when(changed, draw=lambda: jobs_panel.draw_job(jobs.view(job), jobs, place=place))


def _work(request: "DossierRequest") -> Any:
    engine, store = resources.engine(), resources.store()

    def work(progress: Any) -> None:
        from core.dossier.others import note_fingerprint
        from core.dossier.run import run_dossier

        def lease_of(model: str, saes: Any) -> Any:
            return engine.lease(model, saes, progress=progress)

        lease = lease_of(request.model, [request.sae_name])
        note_fingerprint(store, request, lease.sae_fingerprints[0])
        run_dossier(lease_of, store, with_texts([request])[0])

    return work


def _key(request: "DossierRequest") -> str:
    """The same whatever others say of the latent, which is not known before the SAE is loaded."""
    return request.of(request.latent).key


def _link(selection: Selection, page: DossierView) -> str:
    return latent_links.address("dossier", selection, **LINK.to_parameters(page))
