"""Which of all latents are worth steering: their scores, made at a click, and a way to steer."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.selection import Selection, to_parameters
from pages.parts import job_results, latent_links, tasks

if TYPE_CHECKING:
    import pandas as pd

    from core.activations.text_index import OpenIndex
    from core.steering.score_run import SteeringScores

_BEST = 10


def scores(selection: Selection, entry: SaeEntry, opened: "OpenIndex") -> "pd.DataFrame | None":
    """A row of scores for each latent, or None until they were asked for and made."""
    from core.steering.score_run import run_scores

    key = f"steering-scores:{opened.key.digest}"
    asked = f"steering_scores_{selection.sae}_{entry.version}"
    store = resources.store()
    known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if not known and not st.session_state.get(asked):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                "Score all latents for steering",
                icon=":material/speed:",
                key="latent_score_all",
                on_click=lambda: st.session_state.update({asked: True}),
            )
            st.caption(
                "Input score: does it fire on the tokens that it pushes? Output score: does it "
                "make the model say them? Kept once made.",
                width="content",
            )
        return None
    found: SteeringScores | None = job_results.recent_result(
        key,
        "Scoring latents for steering",
        lambda progress: run_scores(job_results.lease(selection, progress=progress), store, opened),
        link=latent_links.address("latent", selection, tab="browse"),
    )
    if found is None:
        return None
    _summary(found)
    return found.table()


def _summary(found: "SteeringScores") -> None:
    import numpy as np

    n = int(np.isfinite(found.output.calibrated).sum())
    beyond = int((found.p <= 0.05).sum())
    st.caption(
        f"Output scores of {n:,} latents, each at a KL divergence of 0.5 on three neutral prompts: "
        f"{beyond:,} lie beyond 95 % of {len(found.output_null)} random directions (chance would "
        f"give {0.05 * n:,.0f}). Mean input score {np.nanmean(found.input_score):.3f}; with the "
        f"tokens of other latents {found.input_null:.3f}."
    )


def best_link(selection: Selection, table: "pd.DataFrame") -> None:
    """A link that steers with the first latents of a table, as it is sorted."""
    first = [int(it) for it in table["latent"][:_BEST]]
    if not first:
        return
    st.page_link(
        "pages/steering.py",
        label=f"Steer with the first {len(first)} of these",
        icon=":material/directions_car:",
        query_params=to_parameters(selection)
        | {"latents": ",".join(map(str, first)), "unit": "kl"},
    )


def columns() -> dict[str, Any]:
    """How the scores stand in a table."""
    number = st.column_config.NumberColumn
    return {
        "input_score": number(
            "input score",
            format="%.2f",
            help="Share of its strongest texts whose peak token is among the 20 tokens that it "
            "pushes most (Arad et al. 2025); empty with fewer than ten texts.",
        ),
        "output_score": number(
            "output score",
            format="%.3f",
            help="Probability of its likeliest pushed token times 1 - rank / vocabulary, at the "
            "strength at which predictions change by 0.5 nats: comparable between latents.",
        ),
        "output_authors": number(
            "output score (10 ×)",
            format="%.3f",
            help="The same in the authors' setting: 10 times the largest activation, one prompt.",
        ),
        "output_p": number(
            "output p",
            format="%.3f",
            help="Share of random directions whose output score is as high.",
        ),
        "kl_strength": number(
            "strength at KL 0.5", format="%.3g", help="In units of the latent's activation."
        ),
    }
