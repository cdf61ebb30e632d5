"""What the SAE's latents are made of: a meta-SAE of its decoder rows, beside pursuit and nulls."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.meta_sae.config import PRESETS
from core.meta_sae.run import MetaRequest, mark_decomposed, run_meta_sae, was_decomposed
from core.meta_sae.view import LINK, PRESET_TITLES, MetaView
from core.sae_quality.view import SaePageView
from core.splitting.members import Member, members_of
from core.view.choices import Choices
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, errors, job_results, plots, weights
from pages.parts.page_state import PageState
from pages.parts.sae import jobs, meta_edit, meta_map, meta_parts, meta_texts, metric

if TYPE_CHECKING:
    from core.meta_sae.found import MetaFound

STATE = PageState("meta_sae", LINK)
_UNASKED = 2048
_UNASKED_ROWS = 2_000_000
"""The demo is decomposed unasked in trainings of at most so many rows."""
_NONE = "none"


def draw(selection: Selection, entry: SaeEntry, view: SaePageView, choices: Choices) -> None:
    """The section; the selection must be loaded."""
    state = STATE.begin()
    for problem in STATE.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    st.caption(
        "A meta-SAE is a sparse dictionary of the SAE's own decoder rows: each latent as a few "
        "meta-latents. Rows without structure are explained in part as well, so every figure "
        "stands beside rows of the same covariance, and beside a second seed."
    )
    request = _request(selection, entry, choices, state)
    if request is None:
        return
    found = _found(selection, entry, request, view, state)
    if found is None:
        return
    if state.meta >= found.made.acts.shape[1]:
        st.warning(
            f"There is no meta-latent {state.meta} here; the strongest of this latent is shown.",
            icon=":material/link_off:",
        )
    _evidence(found, entry)
    texts, words = meta_texts.of(selection, entry, request, found, view)
    with errors.shown_plainly():
        meta_parts.draw(selection, entry, found, state, STATE, texts, words)
    with errors.shown_plainly():
        meta_map.draw(selection, entry, request, found, state, STATE)
    with errors.shown_plainly():
        meta_edit.draw(selection, entry, request, found, view, state, STATE)


def _request(
    selection: Selection, entry: SaeEntry, choices: Choices, state: MetaView
) -> MetaRequest | None:
    narrower = [
        it
        for it in members_of(choices, selection, entry)
        if (it.entry.width or 0) < (entry.width or 0)
    ]
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.segmented_control(
            "Trained as",
            list(PRESET_TITLES),
            format_func=PRESET_TITLES.__getitem__,
            **STATE.choices("meta_preset", "preset", share=0.0, steps=0, meta=-1, changes=()),
        )
        with st.popover("Settings", icon=":material/tune:"):
            _settings(state)
        chosen = _narrower(narrower, state)
    config = state.config
    if entry.width is not None:
        st.caption(
            f"{config.width(entry.width):,} meta-latents for {entry.width:,} latents, "
            f"{config.k} active on average; {config.steps:,} batches of {config.batch:,} rows, "
            f"learning rate {config.lr:g}."
        )
    entries = [entry, *([chosen] if chosen is not None else [])]
    if not weights.ready(selection.model, entries, then="Download and decompose"):
        return None
    return MetaRequest(
        selection.model,
        (*entry.key, entry.version),
        None if chosen is None else (*chosen.key, chosen.version),
        config,
    )


def _settings(state: MetaView) -> None:
    preset = PRESETS[state.preset]
    others: dict[str, Any] = {"meta": -1, "changes": ()}
    st.slider("Meta-latents a latent", 1, 16, **STATE.widget("meta_k", "k", **others))
    st.number_input(
        "Meta-latents for each latent",
        0.001,
        4.0,
        step=0.01,
        format="%.3f",
        **STATE.widget("meta_share", "share", value=state.share or preset.share, **others),
    )
    st.number_input(
        "Batches",
        1,
        100_000,
        step=100,
        **STATE.widget("meta_steps", "steps", value=state.steps or preset.steps, **others),
    )
    st.number_input(
        "Seed (the second meta-SAE has the next)",
        0,
        2**31 - 2,
        **STATE.widget("meta_seed", "seed", **others),
    )


def _narrower(narrower: list[Member], state: MetaView) -> SaeEntry | None:
    """The SAE over which rows are decomposed as well; None where there is none."""
    if not narrower:
        return None
    labels = [*(it.label for it in narrower), _NONE]
    titles = {it.label: it.title for it in narrower} | {_NONE: "no narrower SAE"}
    if state.narrower and state.narrower not in labels:
        st.warning(
            escape_markdown(
                f"{state.narrower} is no narrower SAE of this site; {labels[-2]} is taken."
            ),
            icon=":material/link_off:",
        )
    chosen = state.narrower if state.narrower in labels else labels[-2]
    st.selectbox(
        "Beside it, latents of",
        format_func=titles.__getitem__,
        **STATE.menu("meta_narrower", "narrower", labels, value=chosen),
    )
    return next((it.entry for it in narrower if it.label == chosen), None)


def _found(
    selection: Selection,
    entry: SaeEntry,
    request: MetaRequest,
    view: SaePageView,
    state: MetaView,
) -> "MetaFound | None":
    engine, store = resources.engine(), resources.store()
    small = (
        jobs.is_demo(selection)
        and (entry.width or 0) <= _UNASKED
        and request.config.batch * request.config.steps <= _UNASKED_ROWS
    )
    if not jobs.wanted(
        request.key,
        "Decompose this SAE",
        start=small or was_decomposed(store, request),
        about="Four meta-SAEs are trained: two seeds and two nulls. What was trained is kept, and "
        "a cancelled training goes on where it was.",
    ):
        return None

    def train(progress: Any) -> "MetaFound":
        lease = engine.lease(request.model, request.names, progress=progress)
        found = run_meta_sae(lease, store, request)
        mark_decomposed(store, request)
        return found

    return job_results.recent_result(
        request.key,
        f"Meta-SAE of {entry.sae_id}",
        train,
        link=jobs.link(selection, view, **LINK.to_parameters(state)),
        room=700,
    )


def _evidence(found: "MetaFound", entry: SaeEntry) -> None:
    from core.meta_sae import figures
    from core.meta_sae.tables import evidence_table

    made = found.made
    with st.container(border=True), st.container(horizontal=True, gap="medium"):
        it = made.explained
        metric.draw(
            "Variance of the rows explained",
            f"{it.value:.1%}",
            f"{it.low:.1%}–{it.high:.1%} · second seed {made.second_seed:.1%}",
            f"Of {len(made.latents):,} rows of length 1, about their mean.",
        )
        metric.draw(
            "Beyond rows without structure",
            f"{100 * made.excess:+.1f} points",
            f"Gaussian rows {made.gaussian:.1%} · permuted {made.permuted:.1%}",
            "A meta-SAE of rows drawn from the normal distribution with the same mean and "
            "covariance explains so much of those.",
        )
        metric.draw(
            "Meta-latents that another seed finds",
            f"{made.recurring:.0%}",
            f"on Gaussian rows {made.recurring_null:.0%}",
            f"Of {len(made.matched):,}; cosine above 0.7 with a partner of its own.",
        )
        per_row = made.acts.nnz / max(1, len(made.latents))
        metric.draw(
            "Meta-latents a latent", f"{per_row:.1f}", f"from {made.meta.threshold:.3f} on", ""
        )
    if made.excess < 0.02 or made.recurring < 0.2:
        st.info(
            "Little here goes beyond what rows without structure would give, or comes back under "
            "another seed: read these meta-latents as one of many ways to cut the rows."
        )
    left, right = st.columns(2)
    explained = figures.explained_figure(made)
    with left:
        st.markdown("**How much of the rows each way explains**")
        plots.draw(explained, key="meta_explained", config={"displayModeBar": False})
    with right:
        st.markdown("**Do two seeds find the same?**")
        plots.draw(
            figures.stability_figure(made), key="meta_stable", config={"displayModeBar": False}
        )
    percent = {
        name: st.column_config.NumberColumn(format="percent")
        for name in ("explained", "low", "high", "null", "excess")
    }
    st.dataframe(
        evidence_table(made),
        hide_index=True,
        key="meta_evidence",
        column_config=percent | {"n": "rows", "null_is": "the null is"},
    )
    name = f"{entry.release}-{entry.sae_id}-decompositions"
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: evidence_table(made), name, key="meta_evidence_file")
        downloads.figure(explained, name, title=name, key="meta_evidence_page")
