"""Whether the model's answer rests on the latents that absorb a concept, at a click."""

import hashlib
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.absorption.run import AbsorptionRequest, run_effects
from core.view.markup import escape_markdown
from pages.parts import action, downloads, job_results, tasks

if TYPE_CHECKING:
    from core.absorption.effects import Effects
    from core.absorption.result import ConceptResult


def draw(request: AbsorptionRequest, result: "ConceptResult", *, name: str) -> None:
    """The offer, and the table once it was made; nothing where no latent absorbs the concept."""
    if result.examples.empty:
        return
    words = result.examples.to_json() or ""
    about = hashlib.sha256(f"{request.key}{result.name}{words}".encode()).hexdigest()[:24]
    key, store = f"absorption-effects:{about}", resources.store()

    def look(progress: Any) -> "Effects":
        lease = resources.engine().lease(request.model, [request.names[0]], progress=progress)
        return run_effects(lease, store, request, result)

    known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if not known and not action.clicked(
        "Does the answer rest on them?", icon=":material/science:", key="absorption_effects_ask"
    ):
        st.caption(
            f"Integrated gradients at {len(result.examples)} absorbed positions of the latents "
            "that absorb most, as in sae-spelling."
        )
        return
    found: Effects | None = job_results.recent_result(
        key, "Removing absorbing latents", look, room=120
    )
    if found is None:
        return
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        found.table,
        hide_index=True,
        key="absorption_effects",
        column_config={
            "latent": st.column_config.NumberColumn(format="%d"),
            "effect": st.column_config.NumberColumn("effect of removing it", format="%.3f"),
            "first": share,
            "clear": share,
        },
    )
    st.caption(
        escape_markdown(
            f"Change of the {found.metric}, by integrated gradients from all latents off to all of "
            f"them on (parts and sum differ by at most {found.gap:.1%}). first: share of the "
            "positions at which no other latent's removal costs more; clear: by 1 or more, which "
            "sae-spelling asks for. The probe says that the latent carries the concept; this says "
            "whether what the model does rests on it."
        )
    )
    downloads.table(
        lambda: found.table, f"{name}-effects", key="absorption_effects_file", what="Effects"
    )
