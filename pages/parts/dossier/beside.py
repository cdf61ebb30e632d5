"""The longer runs about the whole SAE: each at a click, from the dossier that misses it."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.dossier.view import LINK, DossierView
from core.view.selection import Selection
from pages.parts import latent_links
from pages.parts.dossier import offered

if TYPE_CHECKING:
    from core.dossier.request import DossierRequest
    from core.dossier.result import Dossier

_LABELS = {
    "map": "Make the map",
    "meta": "Take the directions apart into meta-latents",
    "absorption": "Look for absorption and hedging",
}
_HELP = {
    "map": "UMAP and clusters of the family's decoder directions: some seconds to a minute, once "
    "for all latents.",
    "meta": "Trains a meta-SAE and its nulls, once for all latents of the SAE.",
    "absorption": "All kinds of tokens in all latents, once for the SAE and this text.",
}


def draw(
    chapter: str,
    dossier: "Dossier",
    request: "DossierRequest",
    selection: Selection,
    page: DossierView,
) -> None:
    """Buttons of the runs of a chapter that are not there yet."""
    from core.dossier.beside_shown import RUNS_OF

    if dossier.section(chapter) is None if chapter in RUNS_OF else True:
        return
    missing = [name for name in RUNS_OF.get(chapter, ()) if not dossier.beside.has(name)]
    for name in missing:
        button(name, request, selection, page)


def button(name: str, request: "DossierRequest", selection: Selection, page: DossierView) -> None:
    """The button of one run."""
    from core.dossier.beside import run_key

    link = latent_links.address("dossier", selection, **LINK.to_parameters(page))
    offered.draw(
        _LABELS[name],
        button=f"dossier_run_{name}",
        key=f"dossier-run:{run_key(request, name).digest}",
        title=f"{_LABELS[name]}: {request.sae[1]}",
        work=_work(name, request),
        link=link,
    )
    st.caption(_HELP[name])


def _work(name: str, request: "DossierRequest") -> Any:
    store, worker = resources.store(), resources.worker()

    def work(progress: Any) -> None:
        from core.dossier.beside_runs import make_run

        make_run(name, offered.lease_of(progress), store, request, fit=worker.run)

    return work
