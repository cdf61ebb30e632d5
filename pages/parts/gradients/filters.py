"""What of the matrix is shown, and in which order."""

from collections.abc import Sequence

import streamlit as st

from core.gradients.page_view import GradientView
from core.view.markup import visible_token
from pages.parts.gradients import controls, state

_KINDS = {"gradient": "Gradient", "attribution": "Gradient × activation"}
_ORDERS = {"position": "Position", "strength": "Strength", "clustered": "Similarity"}
_PAIRS = {"all": "All", "same token": "Same token", "across tokens": "Between tokens"}


def draw(view: GradientView, tokens: Sequence[str]) -> None:
    """The row above the heatmap."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        controls.choice(
            "Show",
            "kind",
            _KINDS,
            view,
            help="A gradient says how much the target changes for a unit of the source; times its "
            "activation, how much the source contributes here.",
        )
        controls.choice("Order by", "order", _ORDERS, view)
        if view.tab != "logits":
            controls.choice("Pairs", "pairs", _PAIRS, view)
        with st.popover("Filters", icon=":material/filter_alt:"):
            _filters(view, tokens)
        st.button(
            "Show everything again",
            key="grad_reset",
            icon=":material/filter_alt_off:",
            on_click=_reset,
            disabled=not _is_filtered(view),
        )


def _filters(view: GradientView, tokens: Sequence[str]) -> None:
    key = "grad_pattern"
    st.session_state[key] = view.pattern
    st.text_input(
        "Names or descriptions contain",
        key=key,
        max_chars=200,
        placeholder="for example: 'mean' or F1\\.12",
        on_change=lambda: state.change(pattern=st.session_state[key].strip()),
        help="Plain text or a regular expression. A row or column that matches is shown with what "
        "it connects to.",
    )
    left, right = st.columns(2)
    with left:
        controls.number("Strongest sources", "top_from", view, 1, 150)
        _positions("Sources at", "from_positions", view, tokens)
    with right:
        controls.number("Strongest targets", "top_to", view, 1, 150)
        if view.tab != "logits":
            _positions("Targets at", "to_positions", view, tokens)
    controls.flag(
        "Show the first token",
        "first_token",
        view,
        "Attention heads park on the first token, and what latents say there means little.",
    )
    controls.number("Smallest absolute value", "min_size", view, 0.0, 1e9, step=0.01, format="%.4g")


def _positions(label: str, field: str, view: GradientView, tokens: Sequence[str]) -> None:
    key = f"grad_{field}"
    st.session_state[key] = [it for it in getattr(view, field) if it < len(tokens)]
    st.multiselect(
        label,
        range(len(tokens)),
        format_func=lambda it: f"{it} {visible_token(tokens[it])}",
        key=key,
        placeholder="all positions",
        on_change=lambda: state.change(**{field: tuple(sorted(st.session_state[key]))}),
    )


_NAMES = (
    "first_token",
    "from_positions",
    "to_positions",
    "min_size",
    "top_from",
    "top_to",
    "pairs",
    "pattern",
)


def _is_filtered(view: GradientView) -> bool:
    default = GradientView()
    return any(getattr(view, name) != getattr(default, name) for name in _NAMES)


def _reset() -> None:
    default = GradientView()
    state.change(**{name: getattr(default, name) for name in _NAMES})
