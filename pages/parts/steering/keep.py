"""Keep what was steered for the dossier of the selected latent."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.hosting.rights import Action
from core.view.selection import Selection, to_parameters
from pages.parts import action, job_results, people

if TYPE_CHECKING:
    from core.steering.request import SteerRequest
    from core.steering.result import SteerResult


def draw(
    selection: Selection, request: "SteerRequest", result: "SteerResult", *, link: str
) -> None:
    """The button, and the way to the dossier; nothing where the latent is not steered alone."""
    if (selection.latent,) not in request.groups:
        return

    def keep() -> str:
        from core.dossier.kept_steering import keep_steering, kept_of

        people.require(Action.WRITE)
        person = people.current()
        who = "" if person.local else person.author
        kept = kept_of(request, result, selection.latent, link=link, who=who)
        fingerprint = job_results.lease(selection).sae_fingerprints[0]
        keep_steering(resources.store(), fingerprint, selection.latent, kept)
        return f"The dossier of latent {selection.latent} shows this run from now on."

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        action.button(
            "Use in the dossier", keep, key="steer_keep", icon=":material/assignment_add:"
        )
        st.page_link(
            "pages/dossier.py",
            label=f"Dossier of latent {selection.latent}",
            icon=":material/assignment:",
            query_params=to_parameters(selection),
        )
