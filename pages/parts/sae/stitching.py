"""What a wider SAE of the same site adds to a narrower one."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.sae_quality.view import SaePageView
from core.splitting.members import Member, members_of
from core.stitching.run import StitchRequest, mark_stitched, run_stitching, was_stitched
from core.stitching.view import LINK, StitchView
from core.view.choices import Choices
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, job_results, latent_links, plots, tables, view_state, weights
from pages.parts.page_state import PageState
from pages.parts.sae import jobs

if TYPE_CHECKING:
    from core.stitching.proxy import ProxyCheck
    from core.stitching.result import Stitching

_STATE = PageState("stitching", LINK)
_MEASURES = {"error": "Error", "l0": "Active latents", "loss": "Loss"}
_UNASKED = 100_000
_MOST_LISTED = 500


def draw(selection: Selection, entry: SaeEntry, view: SaePageView, choices: Choices) -> None:
    """The section; the selection must be loaded."""
    state = _STATE.begin()
    for problem in _STATE.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    st.caption(
        "Each latent of the wider SAE is put into the narrower one, all in one pass: where the "
        "error falls, the latent brings something new; where it rises, the narrower SAE had it "
        "already."
    )
    others = [it for it in members_of(choices, selection, entry) if it.entry.width != entry.width]
    others = [it for it in others if it.entry.width is not None and entry.width is not None]
    if not others:
        st.info(
            "This SAE has no relative of another width at its site to be stitched with; choose an "
            "SAE of a family on the left."
        )
        return
    partner = _partner(others, entry, state)
    pair = sorted((entry, partner.entry), key=lambda it: it.width or 0)
    st.markdown(f"**{escape_markdown(pair[1].sae_id)}** into **{escape_markdown(pair[0].sae_id)}**")
    if not weights.ready(selection.model, pair, then="Download and stitch"):
        return
    found = _stitched(selection, pair[0], pair[1], view, state)
    if found is not None:
        _found(selection, pair[0], pair[1], found, state)


def _partner(others: list[Member], entry: SaeEntry, state: StitchView) -> Member:
    labels = [it.label for it in others]
    narrower = [it.label for it in others if (it.entry.width or 0) < (entry.width or 0)]
    proposed = narrower[-1] if narrower else labels[0]
    if state.partner and state.partner not in labels:
        st.warning(
            escape_markdown(f"{state.partner} is no SAE of this site; {proposed} is taken."),
            icon=":material/link_off:",
        )
    chosen = state.partner if state.partner in labels else proposed
    titles = {it.label: it.title for it in others}
    st.selectbox(
        "Stitched with",
        format_func=titles.__getitem__,
        **_STATE.menu("stitch_partner", "partner", labels, value=chosen),
    )
    return next(it for it in others if it.label == chosen)


def _stitched(
    selection: Selection, narrow: SaeEntry, wide: SaeEntry, view: SaePageView, state: StitchView
) -> "Stitching | None":
    request = StitchRequest(
        selection.model,
        (*narrow.key, narrow.version),
        (*wide.key, wide.version),
        jobs.corpus(view),
        view.tokens,
    )
    engine, store = resources.engine(), resources.store()
    start = (jobs.is_demo(selection) and view.tokens <= _UNASKED) or was_stitched(store, request)
    about = f"{view.tokens:,} tokens are read once with both SAEs."
    if not jobs.wanted(request.key, "Stitch them", start=start, about=about):
        return None

    def measure(progress: Any) -> "Stitching":
        lease = engine.lease(request.model, request.names, progress=progress)
        found = run_stitching(lease, store, request)
        mark_stitched(store, request)
        return found

    return job_results.recent_result(
        request.key,
        f"Stitching {wide.sae_id} into {narrow.sae_id}",
        measure,
        link=jobs.link(selection, view, **LINK.to_parameters(state)),
        room=700,
    )


def _found(
    selection: Selection, narrow: SaeEntry, wide: SaeEntry, found: "Stitching", state: StitchView
) -> None:
    from core.stitching import figures
    from core.stitching.proxy import check_proxy

    told = found.told
    check = check_proxy(found.cosine[told], found.novel[told], threshold=state.threshold)
    _metrics(found, check)
    left, right = st.columns([3, 2])
    with left:
        scatter = figures.scatter_figure(found, state.threshold)
        plots.draw(scatter, key="stitch_scatter", config={"displaylogo": False})
    with right:
        st.slider(
            "Cosine below which a latent is called novel",
            0.0,
            1.0,
            step=0.05,
            **_STATE.widget("stitch_below", "threshold", value=min(1.0, max(0.0, state.threshold))),
        )
        plots.draw(figures.roc_figure(check), key="stitch_roc", config={"displayModeBar": False})
    _curve(found, state)
    _latents(selection, narrow, wide, found)


def _metrics(found: "Stitching", check: "ProxyCheck") -> None:
    deltas, told = found.deltas, found.told
    sure = deltas.surely()[told]
    n = int(told.sum())
    chance = float((deltas.shuffled[told] < 0).mean()) if n else float("nan")
    with st.container(border=True), st.container(horizontal=True, gap="medium"):
        st.metric(
            "Novel latents",
            f"{check.n_novel:,} of {n:,}",
            delta=f"with errors of other positions {chance:.0%}",
            delta_color="off",
            delta_arrow="off",
            help="Latents that lower the narrow SAE's error, of those that fire often enough "
            f"to be told; {int((sure == -1).sum()):,} surely lower and "
            f"{int((sure == 1).sum()):,} surely raise it (95 %).",
            width="content",
        )
        st.metric(
            "The cosine tells them (AUC)",
            f"{check.auc.value:.3f}",
            delta=f"95 % of chance below {check.auc_null:.3f}",
            delta_color="off",
            delta_arrow="off",
            help="How often a novel latent's highest cosine is below that of a reconstruction "
            f"latent; 95 % interval {check.auc.low:.3f} to {check.auc.high:.3f}.",
            width="content",
        )
        st.metric(
            f"Below {check.threshold:g}",
            f"{check.hits.value:.0%} / {check.false_alarms.value:.0%}",
            help="Share of the novel latents, and of the reconstruction latents, whose cosine "
            f"is below the threshold; 95 % intervals {check.hits.low:.0%} to "
            f"{check.hits.high:.0%} and {check.false_alarms.low:.0%} to "
            f"{check.false_alarms.high:.0%}.",
            width="content",
        )
        st.metric(
            "Variance explained",
            f"{1 - deltas.narrow_error / deltas.variance:.1%} → "
            f"{1 - deltas.wide_error / deltas.variance:.1%}",
            help="Of the narrow SAE and of the wide one, on the same tokens.",
            width="content",
        )
    rare = int((~told).sum())
    st.caption(
        f"{deltas.n_tokens:,} tokens. {rare:,} latents fired on fewer than {found.min_firings} of "
        "them and are not told."
    )


def _curve(found: "Stitching", state: StitchView) -> None:
    from core.stitching import figures

    if found.curve is None:
        return
    st.subheader("From the narrow SAE to the wide one")
    shown = [it for it in _MEASURES if it != "loss" or found.curve.loss is not None]
    st.segmented_control(
        "Along the curve",
        shown,
        required=True,
        format_func=_MEASURES.__getitem__,
        label_visibility="collapsed",
        **_STATE.choices(
            "stitch_along", "measure", value=state.measure if state.measure in shown else "error"
        ),
    )
    measure = state.measure if state.measure in shown else "error"
    drawing = figures.curve_figure(found.curve, measure)
    plots.draw(drawing, key="stitch_curve", config={"displaylogo": False})
    st.caption(
        f"Left of the dashed line novel latents are put in, those that help most first; right of "
        "it latents of the narrow SAE make room for those nearest to them. "
        f"{found.curve.n_tokens:,} tokens, the loss on {found.curve.loss_tokens:,} predictions."
    )
    downloads.figure(
        drawing,
        f"stitching-{measure}",
        title="Stitched from narrow to wide",
        key="stitch_page",
        what="Curve",
    )


def _latents(selection: Selection, narrow: SaeEntry, wide: SaeEntry, found: "Stitching") -> None:
    from core.stitching.tables import curve_table, latent_table

    st.subheader("Latents of the wide SAE")
    table = latent_table(found)
    listed = table[table["kind"] != "too rare"].head(_MOST_LISTED)
    shown = listed[["latent", "share", "kind", "cosine", "match", "firings"]].assign(
        share=100 * listed["share"]
    )

    def chosen(line: int) -> None:
        latent, (release, sae_id) = int(listed["latent"].iloc[line]), wide.key
        view_state.choose(replace(selection, release=release, sae_id=sae_id, latent=latent))

    tables.clickable(
        shown,
        chosen,
        key="stitch_latents",
        height=360,
        column_config={
            "share": st.column_config.NumberColumn("change of the error (%)", format="%+.4f"),
            "match": st.column_config.NumberColumn("nearest in the narrow SAE", format="%d"),
            "cosine": st.column_config.NumberColumn(format="%.2f"),
        },
    )
    st.caption("The strongest first; a click on a line chooses that latent.")
    name = f"{wide.release}-{wide.sae_id}-into-{narrow.sae_id}"
    with st.container(horizontal=True, gap="large"):
        downloads.table(lambda: table, f"{name}-latents", key="stitch_latents_file", what="Latents")
        curve = found.curve
        if curve is not None:
            with st.popover("The curve"):
                downloads.table(
                    lambda: curve_table(curve),
                    f"{name}-curve",
                    key="stitch_curve_file",
                    what="Curve",
                )
        best = listed["latent"].iloc[0] if len(listed) else None
        if best is not None:
            release, sae_id = wide.key
            target = replace(selection, release=release, sae_id=sae_id, latent=int(best))
            st.markdown(
                f"[Dashboard of latent {int(best)}]({latent_links.address('latent', target)})"
            )
