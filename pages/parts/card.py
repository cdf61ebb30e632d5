"""What the selected SAE is, in figures and words."""

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.markup import escape_markdown
from core.view.sae_facts import SaeFacts, facts_of
from core.view.selection import Selection, to_parameters
from pages.parts import view_state


def draw(selection: Selection, entry: SaeEntry, *, loaded: bool) -> None:
    """The card; unknown figures are said to be unknown, not left out."""
    if loaded:
        from core.view.latent_view import read_card  # brings torch, so not before it is there

        found = read_card(resources.engine(), selection)
        view_state.remember_width(entry, found.d_sae)
        file_format = entry.conversion if entry.path is not None else None
        facts = SaeFacts(found.architecture, found.dataset, found.context_size, file_format)
    else:
        facts = facts_of(entry)
    width = view_state.width_of(entry)
    with st.container(border=True):
        st.markdown(f"**{escape_markdown(entry.sae_id)}** of {escape_markdown(entry.release)}")
        with st.container(horizontal=True, gap="medium"):
            _figure("Latents", None if width is None else f"{width:,}", "How many the SAE has.")
            _figure(
                "Active per token",
                None if entry.l0 is None else f"{entry.l0:.1f}",
                "How many latents are active at one token on average (L0).",
            )
            _figure(
                "Variance explained",
                _percent(entry.explained_variance),
                "How much of the variation in the model's activations the SAE reproduces.",
            )
            _figure(
                "Loss recovered",
                _percent(entry.loss_recovered),
                "How much of the model's ability to predict text survives when its activations are "
                "replaced by the SAE's version of them.",
            )
            _figure(
                "Never active",
                _percent(entry.dead_fraction),
                "Share of latents that never fired when the SAE was measured (dead latents).",
            )
        st.caption("  \n".join(_lines(selection, entry, facts)))
        _family(selection, entry)


def _figure(label: str, value: str | None, explanation: str) -> None:
    missing = value is None
    note = " The publisher does not say." if missing else ""
    st.metric(label, "unknown" if missing else value, help=explanation + note, width="content")


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _lines(selection: Selection, entry: SaeEntry, facts: SaeFacts) -> list[str]:
    place = escape_markdown(entry.hook_name or "a place known after loading")
    if entry.head is not None:
        place = f"head {entry.head} alone at {place}"
    first = [f"Reads {place} of {escape_markdown(selection.model)}"]
    if facts.architecture:
        first.append(f"architecture: {escape_markdown(facts.architecture)}")
    if facts.file_format:
        first.append(f"file format: {escape_markdown(facts.file_format)}")
    if entry.kind == "transcoder":
        first.append("a transcoder, which reads one place and writes another")
    lines = [", ".join(first)]
    size = f"in pieces of {facts.context_size} tokens" if facts.context_size else ""
    if facts.dataset or size:
        text = escape_markdown(facts.dataset or "a dataset that is not named")
        lines.append(f"Trained on {text} {size}".rstrip())
    if entry.neuronpedia_url:
        lines.append(f"[Dashboard on Neuronpedia]({entry.neuronpedia_url})")
    return lines


def _family(selection: Selection, entry: SaeEntry) -> None:
    others = resources.catalog().family_of(entry).entries
    if len(others) < 2:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown("Same place at other widths:", width="content")
        for other in others:
            target = Selection(selection.model, *other.key)
            st.page_link(
                "pages/home.py",
                label=f"{other.width:,}",
                query_params=to_parameters(target),
                disabled=other.key == entry.key,
            )
