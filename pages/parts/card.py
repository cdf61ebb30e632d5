"""What the selected SAE is, in figures and words."""

from dataclasses import replace

import streamlit as st

from core import resources
from core.activations.index_figures import recall_index
from core.catalog.entries import SaeEntry
from core.fit_check.measurements import Measurement, Measurements, combine_measurements
from core.view.markup import escape_markdown
from core.view.sae_facts import SaeFacts, facts_of, read_card, scale_of
from core.view.selection import Selection
from pages.parts import errors, fit_warnings, job_results, view_state


def draw(selection: Selection, entry: SaeEntry, *, loaded: bool) -> None:
    """The card: what was published, what was measured here, and what neither tells."""
    # What lies on this machine is loaded unasked, and then checked.
    here, pending = Measurements(), entry.source != "hub"
    if loaded:
        pending = False
        found = read_card(job_results.lease(selection), entry)
        view_state.remember_width(entry, found.d_sae)
        entry = replace(
            entry,
            hook_name=found.hook_name,
            l0=entry.l0 or found.l0,
            dead_fraction=_first(entry.dead_fraction, found.dead_fraction),
        )
        facts = SaeFacts(
            found.architecture,
            found.dataset,
            found.context_size,
            entry.conversion if entry.path is not None else None,
            scale_of(found),
        )
        with errors.shown_plainly():
            index = recall_index(
                resources.store(), (selection.model, *selection.sae, entry.version)
            )
            checked = fit_warnings.result(selection, entry)
            here = combine_measurements(index, checked)
            pending = fit_warnings.is_running(selection, entry)
    else:
        facts = facts_of(entry)
    width = view_state.width_of(entry)
    with st.container(border=True):
        st.markdown(f"**{escape_markdown(entry.sae_id)}** of {escape_markdown(entry.release)}")
        with st.container(horizontal=True, gap="medium"):
            latents = None if width is None else f"{width:,}"
            st.metric("Latents", latents or "unknown", help="How many it has.", width="content")
            _figure(
                "Active per token",
                entry.l0,
                here.l0,
                "{:.1f}",
                "How many latents are active at one token on average (L0).",
                pending=pending,
            )
            _figure(
                "Variance explained",
                entry.explained_variance,
                here.explained_variance,
                "{:.1%}",
                "How much of the variation in the model's activations the SAE reproduces.",
                pending=pending,
            )
            _figure(
                "Loss recovered",
                entry.loss_recovered,
                here.loss_recovered,
                "{:.1%}",
                "How much of the model's ability to predict text survives when its activations are "
                "replaced by the SAE's version of them.",
                pending=pending,
            )
            _figure(
                "Never active",
                entry.dead_fraction,
                here.dead_fraction,
                "{:.1%}",
                "Share of latents that never fired when the SAE was measured (dead latents). On "
                "little text, rare latents are among them.",
                pending=pending,
            )
        st.caption("  \n".join([*_lines(selection, entry, facts), *_measured(here, pending)]))
        if loaded:
            with errors.shown_plainly():
                fit_warnings.draw(selection, entry)
        _family(selection, entry)


def _figure(
    label: str,
    said: float | None,
    here: Measurement | None,
    form: str,
    explanation: str,
    *,
    pending: bool,
) -> None:
    """What was published, with what was measured here below it; or what was measured alone.

    While it is `pending`, its room is kept, so that what comes later moves nothing.
    """
    note, beside = " As published or saved with it.", "…" if pending else None
    if said is None and here is None:
        note = " The publisher does not say, and it was not measured here."
    if here is not None:
        interval = (
            ""
            if here.low is None or here.high is None
            else (f", 95 % interval {form.format(here.low)} to {form.format(here.high)}")
        )
        measured_here = (
            f" Measured here on {here.n_tokens:,} tokens of {here.text}: "
            f"{form.format(here.value)}{interval}."
        )
        note = note + measured_here if said is not None else measured_here
        beside = "measured here" if said is None else f"here {form.format(here.value)}"
    value = here.value if said is None and here is not None else said
    st.metric(
        label,
        "unknown" if value is None else form.format(value),
        delta=beside,
        delta_color="off",
        delta_arrow="off",
        help=explanation + escape_markdown(note),
        width="content",
    )


def _measured(here: Measurements, pending: bool) -> list[str]:
    """Which text the figures that were measured here rest on, or will."""
    figures = {"L0 and never active": here.l0, "the others": here.explained_variance}
    texts = {
        name: f"{figure.n_tokens:,} tokens of {figure.text}"
        for name, figure in figures.items()
        if figure is not None
    }
    if pending:
        return ["A sample of text will tell whether it is read where it was trained…"]
    if not texts:
        return []
    if len(set(texts.values())) == 1:
        return [f"Measured here on {escape_markdown(next(iter(texts.values())))}"]
    parts = [f"{name} on {text}" for name, text in texts.items()]
    return [f"Measured here: {escape_markdown('; '.join(parts))}"]


def _first(said: float | None, other: float | None) -> float | None:
    return other if said is None else said


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
    if facts.scale:
        lines.append(escape_markdown(facts.scale))
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
            if other.key == entry.key:
                st.markdown(f"**{other.width:,}** (this one)", width="content")
                continue
            # Not links: one that leads to the page that it stands on is not followed.
            st.button(
                f"{other.width:,}",
                key=f"card_width_{other.width}",
                on_click=view_state.choose,
                args=(Selection(selection.model, *other.key),),
                help=f"{other.sae_id} of {other.release}",
            )
