"""Descriptions of the latents on the page, and the jobs that fetch or make them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from pages.parts import job_results, neuronpedia, tasks

if TYPE_CHECKING:
    from core.descriptions.sources import DescribedSae
    from core.descriptions.table import Descriptions

_READING = "Reading a sample of text for descriptions"


def known_descriptions(
    model: str, saes: "Mapping[str, DescribedSae]", entries: Sequence[SaeEntry]
) -> Any:
    """What is known now, by the SAE's name in links; nothing is started."""
    from core.descriptions.sources import best_descriptions

    return best_descriptions(
        resources.store(),
        saes,
        published=neuronpedia.fetched_descriptions(_by_name(entries)),
        offline=_offline(model, entries),
    )


def draw(model: str, found: "Mapping[str, Descriptions]", entries: Sequence[SaeEntry]) -> None:
    """How many latents have descriptions, and what can be done about the others."""
    from core.descriptions.sources import coverage

    if not found:
        return
    st.caption(coverage(found))
    small = resources.catalog().model(model).source == "demo"
    key = _evidence_key(model, entries)
    if _offline(model, entries):
        pass
    elif small or st.session_state.get("grad_read_sample") == key:
        _read_sample(model, entries, key)
    else:
        st.button(
            "Describe latents from a sample of text",
            icon=":material/menu_book:",
            key="grad_describe",
            on_click=lambda: st.session_state.update(grad_read_sample=key),
        )
    if any(entry.neuronpedia_id is not None for entry in entries):
        widths = {name: one.d_sae for name, one in found.items()}
        neuronpedia.draw_fetch_button(_by_name(entries), widths)


def _read_sample(model: str, entries: Sequence[SaeEntry], key: str) -> None:
    from core.corpus import docs_sample
    from core.gradients import display
    from core.splitting.text_evidence import read_sample

    engine, store, members = resources.engine(), resources.store(), display.members(entries)
    labels = [member.label for member in members]

    def make(progress: Any) -> Any:
        lease = engine.lease(model, [member.entry.key for member in members], progress=progress)
        return read_sample(lease, store, labels, docs_sample())

    # One at a time: two would leave nobody to run what the reader is waiting for.
    jobs = resources.jobs()
    others = [job for job in jobs.jobs() if job.title == _READING and job.key != key]
    other = next((job for job in others if not job.state.finished), None)
    busy = None if other is None or tasks.found(key) is not None else jobs.get(other.key)
    if busy is not None:
        st.caption("Descriptions of these latents follow those that are being made.")
        job_results.draw_job(busy)
        return
    found = job_results.recent_result(key, _READING, make, wait=0.3)
    if found is not None:
        st.rerun()


def _evidence_key(model: str, entries: Sequence[SaeEntry]) -> str:
    from core.corpus import docs_sample
    from core.gradients import display
    from core.splitting.text_evidence import evidence_key

    return evidence_key(model, display.members(entries), docs_sample())


def _offline(model: str, entries: Sequence[SaeEntry]) -> "dict[str, Descriptions]":
    found = resources.recent().get(_evidence_key(model, entries)) or {}
    return {name: evidence.offline for name, evidence in found.items()}


def _by_name(entries: Sequence[SaeEntry]) -> dict[str, SaeEntry]:
    from core.gradients.sae_choices import name_of

    return {name_of(entry): entry for entry in entries}
