"""The tabs with a heatmap: latents to latents, tokens to latents, latents to the next token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.gradients.page_view import GradientView
from core.view.markup import visible_token
from core.view.selection import Selection
from pages.parts import latent_links, weights, work
from pages.parts.gradients import cell, chart, controls, descriptions, filters, state

if TYPE_CHECKING:
    from core.gradients.gradient_request import GradientRequest, GradientResult

ROOM = 700


def draw(selection: Selection, entries: Sequence[SaeEntry], view: GradientView) -> None:
    """The whole tab."""
    from core.gradients.gradient_request import GradientRequest
    from core.gradients.prompt import example_prompt, short_prompt_note

    example = example_prompt(resources.catalog().model(selection.model).source, view.tab)
    prompt = controls.prompt(view, example)
    source, target = _saes(selection, entries, view)
    keep: Any = view.keep_error
    request = GradientRequest(
        tab=view.tab,
        model=selection.model,
        prompt=prompt,
        source=source,
        target=target,
        k=view.k if view.tab == "logits" else 0,
        freeze_attention=view.freeze_attention,
        freeze_layer_norm=view.freeze_layer_norm,
        keep_error="nowhere" if view.tab == "tokens" else keep,
        most=view.most,
    )
    if not weights.ready(selection.model, request.entries):
        return
    result = _result(request, latent_links.address("gradients", selection))
    if result is None:
        return
    note = short_prompt_note(result.tokens)
    if note:
        st.info(note)
    controls.tokens(result.tokens)
    _shown(result, selection, view)


def _saes(
    selection: Selection, entries: Sequence[SaeEntry], view: GradientView
) -> tuple[SaeEntry | None, SaeEntry | None]:
    chosen = next(it for it in entries if it.key == selection.sae)
    first, last = sae_choices.default_pair(entries, chosen)
    source, target = sae_choices.find(entries, view.source), sae_choices.find(entries, view.target)
    if view.tab == "latents":
        if source is None and target is not None:
            first = sae_choices.default_pair(entries, target)[0]
        source, target = source or first, target or last
        left, right = st.columns(2)
        with left:
            controls.sae("From latents of", "source", entries, source)
        with right:
            controls.sae("To latents of", "target", entries, target)
        if sae_choices.depth(source) > sae_choices.depth(target):
            st.button(
                "Swap the two SAEs",
                icon=":material/swap_horiz:",
                on_click=_swap,
                args=(source, target),
                key="grad_swap",
            )
    elif view.tab == "tokens":
        source, target = None, target or chosen
        controls.sae("To latents of", "target", entries, target)
    else:
        source, target = source or chosen, None
        left, right = st.columns([3, 1])
        with left:
            controls.sae("From latents of", "source", entries, source)
        with right:
            controls.number("Likeliest next tokens", "k", view, 1, 100)
    controls.method(view)
    return source, target


def _swap(source: SaeEntry, target: SaeEntry) -> None:
    state.change(source=sae_choices.name_of(target), target=sae_choices.name_of(source))


def _result(request: "GradientRequest", link: str) -> "GradientResult | None":
    """The matrix, or None while it is being computed, which is then shown in its place."""
    from core.gradients.gradient_request import compute

    engine, store = resources.engine(), resources.store()
    return work.recent_result(
        request.key,
        "Gradients of a prompt",
        lambda progress: compute(engine, store, request, progress),
        link=link,
        room=ROOM,
    )


def _shown(result: "GradientResult", selection: Selection, view: GradientView) -> None:
    from core.gradients import display as shown
    from core.gradients.descriptions import by_label

    request = result.request
    known = descriptions.known(selection.model, result.prints, request.entries)
    axes = [(result.matrix.sources, request.source), (result.matrix.targets, request.target)]
    texts = by_label(axes, known)
    st.caption(shown.counts_sentence(result))
    warning = shown.warning_sentence(result)
    if warning and result.n_targets and result.n_sources:
        st.warning(warning, icon=":material/warning:")
    if result.next_tokens is not None:
        _next_tokens(result)
    filters.draw(view, result.tokens)
    matrix = shown.shown_matrix(result, view, texts)
    nothing = shown.nothing_sentence(result, matrix)
    if nothing:
        st.info(nothing)
        return
    chart.draw(result, matrix, view, texts)
    cell.draw(result, selection, view, texts)
    st.subheader("Do the gradients predict what really happens?")
    chart.check(result, matrix)
    st.subheader("Take it with you")
    chart.downloads(matrix)
    descriptions.draw(selection.model, known, request.entries)


def _next_tokens(result: "GradientResult") -> None:
    import pandas as pd

    table = result.next_tokens
    if table is None:
        return
    with st.expander("The likeliest next tokens, and what the reconstruction makes of them"):
        st.dataframe(
            pd.DataFrame(
                {
                    "next token": [visible_token(it) for it in table["token"]],
                    "score (logit)": table["logit"].round(2),
                    "place": table["rank"] + 1,
                    "score with the reconstruction": table["logit_recon"].round(2),
                    "place with it": table["rank_recon"] + 1,
                }
            ),
            hide_index=True,
        )
