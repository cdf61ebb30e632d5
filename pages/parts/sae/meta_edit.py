"""The selected latent's row edited by its meta-latents: what does the model answer then?"""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.meta_sae.edit_run import EditRequest, run_edit
from core.meta_sae.run import MetaRequest
from core.meta_sae.view import LINK, MOST_CHANGES, MetaView
from core.sae_quality.view import SaePageView
from core.view.markup import escape_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, job_results, plots
from pages.parts.page_state import PageState
from pages.parts.sae import jobs, metric

if TYPE_CHECKING:
    from core.meta_sae.edit import EditEffect
    from core.meta_sae.found import MetaFound

_WHAT = {"scale": "scaled", "swap": "swapped for"}


def draw(
    selection: Selection,
    entry: SaeEntry,
    request: MetaRequest,
    found: "MetaFound",
    view: SaePageView,
    state: MetaView,
    page: PageState[MetaView],
) -> None:
    """The controls, and the effect once it is asked for."""
    st.subheader(f"Edit latent {selection.latent} by its meta-latents")
    place = found.made.place(selection.latent)
    own = [] if place is None else sorted(found.made.acts[[place]].indices.tolist())
    if not own:
        st.caption("This latent has no meta-latents to edit; choose another.")
        return
    st.caption(
        "Its row is written anew with a meta-latent scaled, or swapped for another, at the same "
        "length. Where the latent fires, the model gets the difference; all else stays."
    )
    highest = found.made.acts.shape[1] - 1
    with st.form("meta_edit", border=True):
        columns = st.columns([2, 2, 2, 2])
        before = columns[0].selectbox("Meta-latent of the row", own, key="meta_edit_before")
        what = columns[1].selectbox(
            "is", list(_WHAT), format_func=_WHAT.__getitem__, key="meta_edit_what"
        )
        after = columns[2].number_input(
            "the meta-latent (when swapped)", 0, highest, key="meta_edit_after"
        )
        factor = columns[3].number_input(
            "by the factor", -100.0, 100.0, 0.0, key="meta_edit_by", help="0 takes it out."
        )
        prompt = st.text_input(
            "Prompt whose next token is asked for", state.prompt, key="meta_edit_prompt"
        )
        if st.form_submit_button("Make the change and measure", type="primary"):
            change = (int(before), int(after) if what == "swap" else int(before), float(factor))
            kept = tuple(it for it in state.changes if it[0] != change[0])
            page.change(changes=(*kept, change)[-MOST_CHANGES:], prompt=prompt.strip())
            st.rerun()
    for before, after, factor in state.changes:
        said = f"meta-latent {before} × {factor:g}"
        if after != before:
            said = f"meta-latent {before} swapped for {after}, × {factor:g}"
        st.button(
            said,
            icon=":material/close:",
            key=f"meta_undo_{before}",
            help="Take this change back",
            on_click=lambda before=before: page.change(
                changes=tuple(it for it in page.current().changes if it[0] != before)
            ),
        )
    if not state.changes:
        return
    foreign = [it[0] for it in state.changes if it[0] not in own]
    if foreign:
        st.info(
            f"Meta-latent {foreign[0]} is not part of latent {selection.latent}, whose own are "
            f"{', '.join(map(str, own))}; take that change back, or choose the latent it was made "
            "for."
        )
        return
    if not state.prompt:
        st.info("Type a prompt in which the latent fires, to see what the model answers.")
        return
    effect = _effect(selection, entry, request, view, state)
    if effect is not None:
        _shown(selection, entry, effect)


def _effect(
    selection: Selection,
    entry: SaeEntry,
    request: MetaRequest,
    view: SaePageView,
    state: MetaView,
) -> "EditEffect | None":
    asked = EditRequest(
        request, selection.latent, state.changes, state.prompt, jobs.corpus(view), view.tokens
    )
    engine, store = resources.engine(), resources.store()

    def measure(progress: Any) -> "EditEffect":
        lease = engine.lease(request.model, request.names, progress=progress)
        return run_edit(lease, store, asked)

    return job_results.recent_result(
        asked.key,
        f"Edit of latent {selection.latent}",
        measure,
        link=jobs.link(selection, view, **LINK.to_parameters(state)),
        room=500,
    )


def _shown(selection: Selection, entry: SaeEntry, effect: "EditEffect") -> None:
    from core.meta_sae import figures

    if not effect.prompt["activation"].gt(0).any():
        st.warning(
            f"Latent {selection.latent} does not fire in this prompt, so another row changes "
            "nothing; choose a prompt like its strongest examples."
        )
    fired = effect.prompt[effect.prompt["activation"] > 0]
    if len(fired):
        places = ", ".join(f"{it.text!r} ({it.activation:.2f})" for it in fired.itertuples())
        st.caption(escape_markdown(f"It fires on {places}."))
    random = sum(effect.answer_kl_random) / len(effect.answer_kl_random)
    with st.container(horizontal=True, gap="medium"):
        metric.draw(
            "The answer moves by (KL)",
            f"{effect.answer_kl:.4f} nats",
            f"random directions {random:.4f}, at most {max(effect.answer_kl_random):.4f}",
            f"As long as the change, {len(effect.answer_kl_random)} of them.",
        )
        kl = effect.kl
        metric.draw(
            "Held-out text moves by (KL)",
            f"{kl.value:.5f} nats",
            f"{kl.low:.5f}–{kl.high:.5f} · random {effect.kl_random:.5f} · latent taken out "
            f"{effect.kl_removed:.5f}",
            f"Mean over {effect.n_tokens:,} predictions; it fires before {effect.n_firing:,}.",
        )
        where = effect.kl_firing
        metric.draw(
            "… where it fires",
            f"{where.value:.4f} nats" if effect.n_firing else "never fires",
            f"{where.low:.4f}–{where.high:.4f}" if effect.n_firing else "",
            "Only the predictions of positions at which the latent is active.",
        )
        loss = effect.loss_change
        metric.draw(
            "Loss on held-out text",
            f"{loss.value:+.5f} nats",
            f"{loss.low:+.5f} to {loss.high:+.5f}",
            f"The new row has cosine {effect.cosine:.2f} with the old.",
        )
    drawing = figures.answers_figure(effect.answers)
    plots.draw(drawing, key="meta_answers", config={"displaylogo": False})
    st.dataframe(
        effect.answers.assign(token=effect.answers["token"].map(visible_token)),
        hide_index=True,
        key="meta_answers_table",
        column_config={
            name: st.column_config.NumberColumn(format="percent")
            for name in effect.answers.columns
            if name != "token"
        },
    )
    name = f"{entry.release}-{entry.sae_id}-{selection.latent}-edit"
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: effect.answers, name, key="meta_answers_file")
        downloads.figure(drawing, name, title=name, key="meta_answers_page")
