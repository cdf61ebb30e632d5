"""A run into files, and its explanations to the other pages."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.markup import n_of
from pages.parts import downloads, people, tasks

if TYPE_CHECKING:
    from core.autointerp.record import Record

_NOTE = "ai_used"


def draw(record: "Record", entry: SaeEntry, *, dark: bool) -> None:
    """Use as descriptions, and downloads."""
    from core.autointerp.figure import score_figure
    from core.autointerp.tables import (
        distributions,
        jsonl_bytes,
        neuronpedia_bytes,
        results_table,
    )

    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button(
            "Use as descriptions of this SAE",
            icon=":material/label:",
            key="ai_use",
            on_click=lambda: tasks.attempt(lambda: _use(record)),
            help="The explanations, with their scores, are then shown on the map, on dashboards "
            "and in searches of this SAE, before all other descriptions.",
        )
        note = st.session_state.pop(_NOTE, None)
        if note:
            st.success(note)
    name = f"autointerp-{record['id'][:6]}"
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: results_table(record), name, key="ai_results", what="Results")
        st.download_button(
            "Everything (JSON Lines)",
            lambda: jsonl_bytes(record),
            f"{name}.jsonl",
            on_click="ignore",
            key="ai_jsonl",
            icon=":material/download:",
        )
        st.download_button(
            "For Neuronpedia (JSON Lines)",
            lambda: neuronpedia_bytes(record, entry.neuronpedia_id),
            f"{name}-neuronpedia.jsonl",
            on_click="ignore",
            key="ai_neuronpedia",
            icon=":material/download:",
        )
        downloads.figure(
            lambda: score_figure(distributions(record), dark=dark),
            name,
            title="Scores of explanations",
            key="ai_figure",
            what="Scores",
        )


def _use(record: "Record") -> None:
    from core.autointerp.tables import descriptions_of_run
    from core.descriptions.saved import save_user_descriptions
    from core.descriptions.table import YOURS, Descriptions

    texts, scores = descriptions_of_run(record, record["d_sae"])
    found = Descriptions.from_texts(texts, source=YOURS, scores=scores)
    save_user_descriptions(resources.store(), record["fingerprint"], found, by=people.current())
    n = found.d_sae - found.missing
    st.session_state[_NOTE] = (
        f"{n_of(n, 'latent')} of this SAE {'is' if n == 1 else 'are'} now described by this run."
    )
