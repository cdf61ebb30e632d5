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
from pages.parts import job_results, latent_links, typed, weights
from pages.parts.gradients import cell, controls, descriptions, heatmap

if TYPE_CHECKING:
    from core.gradients.gradient_request import GradientRequest, GradientResult

ROOM = 700
_KINDS = {"gradient": "Gradient", "attribution": "Gradient × activation"}
_ORDERS = {"position": "Position", "strength": "Strength", "clustered": "Similarity"}
_PAIRS = {"all": "All", "same token": "Same token", "across tokens": "Between tokens"}
_FILTERS = (
    "first_token",
    "from_positions",
    "to_positions",
    "min_size",
    "top_from",
    "top_to",
    "pairs",
    "pattern",
    "only",
)


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
    note = short_prompt_note(result.tokens, n_leading=result.n_leading)
    if note:
        st.info(note)
    controls.tokens(result.tokens)
    _shown(result, selection, view)


def _saes(
    selection: Selection, entries: Sequence[SaeEntry], view: GradientView
) -> tuple[SaeEntry | None, SaeEntry | None]:
    chosen = next(entry for entry in entries if entry.key == selection.sae)
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
            controls.number("Likeliest next tokens", "k", 1, 100)
    controls.method(view)
    return source, target


def _swap(source: SaeEntry, target: SaeEntry) -> None:
    controls.change(source=sae_choices.name_of(target), target=sae_choices.name_of(source))


def _result(request: "GradientRequest", link: str) -> "GradientResult | None":
    """The matrix, or None while it is being computed, which is then shown in its place."""
    from core.gradients.gradient_request import compute

    engine, store = resources.engine(), resources.store()
    saes = [entry.key for entry in request.entries]
    return job_results.recent_result(
        request.key,
        "Gradients of a prompt",
        lambda progress: compute(
            engine.lease(request.model, saes, progress=progress), store, request
        ),
        link=link,
        room=ROOM,
    )


def _shown(result: "GradientResult", selection: Selection, view: GradientView) -> None:

    from core.gradients import display

    request = result.request
    known = descriptions.known_descriptions(selection.model, result.saes, request.entries)
    axes = [(result.matrix.sources, request.source), (result.matrix.targets, request.target)]
    texts = display.descriptions_by_label(axes, known)
    st.caption(display.counts_sentence(result))
    warning = display.warning_sentence(result)
    if warning and result.n_targets and result.n_sources:
        st.warning(warning, icon=":material/warning:")
    if result.next_tokens is not None:
        _next_tokens(result)
    ends = [entry for entry in (request.source, request.target) if entry is not None]
    own = selection.latent if selection.sae in [entry.key for entry in ends] else None
    _filter_row(view, result.tokens, n_leading=result.n_leading, own=own)
    only_from, only_to = _only(request, selection, view)
    matrix = display.matrix_to_show(result, view, texts, only_from=only_from, only_to=only_to)
    nothing = display.nothing_sentence(result, matrix)
    if nothing and result.n_targets and result.n_sources and (only_from, only_to) != (None, None):
        nothing = (
            f"Latent {selection.latent} is not active on this prompt, or nothing that is shown "
            "leads to it: type a text on which it fires, or switch off “Only latent "
            f"{selection.latent}”."
        )
    if nothing:
        st.info(nothing)
        return
    heatmap.draw(result, matrix, view, texts)
    cell.draw(result, selection, view, texts)
    st.subheader("Do the gradients predict what really happens?")
    heatmap.check(result, matrix)
    st.subheader("Take it with you")
    heatmap.downloads(matrix)
    descriptions.draw(selection.model, known, request.entries)


def _next_tokens(result: "GradientResult") -> None:
    import pandas as pd

    table = result.next_tokens
    if table is None:
        return
    title = "The likeliest next tokens, and what the reconstruction makes of them"
    with st.expander(title, key="grad_next_tokens"):
        st.dataframe(
            pd.DataFrame(
                {
                    "next token": [visible_token(token) for token in table["token"]],
                    "score (logit)": table["logit"].round(2),
                    "place": table["rank"] + 1,
                    "score with the reconstruction": table["logit_recon"].round(2),
                    "place with it": table["rank_recon"] + 1,
                }
            ),
            hide_index=True,
        )


def _only(
    request: "GradientRequest", selection: Selection, view: GradientView
) -> tuple[int | None, int | None]:
    """The latent that alone is shown at either end; where one SAE is at both, as a target."""
    if not view.only:
        return None, None
    if request.target is not None and request.target.key == selection.sae:
        return None, selection.latent
    if request.source is not None and request.source.key == selection.sae:
        return selection.latent, None
    return None, None


def _filter_row(
    view: GradientView, tokens: Sequence[str], *, n_leading: int, own: int | None
) -> None:
    """The row above the heatmap; `n_leading` of the tokens stand in front of the prompt.

    `own` is the chosen latent where its SAE is at one of the ends.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        controls.choice(
            "Show",
            "kind",
            _KINDS,
            help="A gradient says how much the target changes for a unit of the source; times its "
            "activation, how much the source contributes here.",
        )
        controls.choice("Order by", "order", _ORDERS)
        if view.tab != "logits":
            controls.choice("Pairs", "pairs", _PAIRS)
        if own is not None:
            controls.flag(
                f"Only latent {own}",
                "only",
                "Show what leads to (or from) the latent chosen on the left alone.",
            )
        with st.popover("Filters", icon=":material/filter_alt:"):
            _filters(view, tokens, n_leading)
        st.button(
            "Show everything again",
            key="grad_reset",
            icon=":material/filter_alt_off:",
            on_click=_reset,
            disabled=not _is_filtered(view),
        )


def _filters(view: GradientView, tokens: Sequence[str], n_leading: int) -> None:
    typed.line(
        "Names or descriptions contain",
        most=200,
        placeholder="for example: 'mean' or F1\\.12",
        **controls.widget("grad_pattern", "pattern", read=str.strip),
        help="Plain text or a regular expression. A row or column that matches is shown with what "
        "it connects to.",
    )
    left, right = st.columns(2)
    with left:
        controls.number("Strongest sources", "top_from", 1, 150)
        _positions("Sources at", "from_positions", view, tokens)
    with right:
        controls.number("Strongest targets", "top_to", 1, 150)
        if view.tab != "logits":
            _positions("Targets at", "to_positions", view, tokens)
    if n_leading:
        controls.flag(
            "Show the first token",
            "first_token",
            "Attention heads park on the first token, and what latents say there means little.",
        )
    controls.number("Smallest absolute value", "min_size", 0.0, 1e9, step=0.01, format="%.4g")


def _positions(label: str, field: str, view: GradientView, tokens: Sequence[str]) -> None:
    chosen = [place for place in getattr(view, field) if place < len(tokens)]
    st.multiselect(
        label,
        range(len(tokens)),
        format_func=lambda place: f"{place} {visible_token(tokens[place])}",
        placeholder="all positions",
        **controls.choices(
            f"grad_{field}", field, value=chosen, read=lambda places: tuple(sorted(places))
        ),
    )


def _is_filtered(view: GradientView) -> bool:
    default = GradientView()
    return any(getattr(view, name) != getattr(default, name) for name in _FILTERS)


def _reset() -> None:
    default = GradientView()
    controls.change(**{name: getattr(default, name) for name in _FILTERS})
