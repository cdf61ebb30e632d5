"""The view of the page in this session, and the widgets with which a reader changes it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.gradients.page_view import LINK, MOST_CHARACTERS, GradientView
from core.view.choices import Choices
from core.view.markup import exact_markdown, visible_token
from pages.parts.page_state import PageState

TABS = {
    "latents": "Latent → latent",
    "tokens": "Token → latent",
    "logits": "Latent → next token",
    "circuit": "Circuit",
    "induction": "Induction",
}
_ERRORS = {
    "first": "The SAE's reconstruction, but for the first token",
    "nowhere": "The SAE's reconstruction",
    "everywhere": "What the model itself has there",
}
_page = PageState("gradients", LINK)
problems = _page.problems
_SAES = ("source", "target", "early", "late")
_OF_A_CELL = {"tab", "prompt", "source", "target"}
_OF_A_NODE = {"tab", "prompt", "chain", "end"}
_OF_AN_END = {"prompt", "chain"}


def begin(choices: Choices, model: str) -> GradientView:
    """The view to show; a link that this session did not write is followed first."""

    def parse(link: Mapping[str, str]) -> tuple[GradientView, tuple[str, ...]]:
        view, problems = LINK.parse(link)
        found: list[str] = []
        dropped: dict[str, Any] = {}
        parameters = {field.name: field.parameter for field in LINK.fields}

        def check(field: str, names: tuple[str, ...]) -> bool:
            try:
                for name in names:
                    sae_choices.checked_name(choices, model, name)
            except ValueError as error:
                found.append(f"{parameters[field]} in this link cannot be used: {error}")
                return False
            return True

        for field in _SAES:
            name = getattr(view, field)
            if name and not check(field, (name,)):
                dropped[field] = ""
        if not check("chain", view.chain):
            dropped["chain"] = ()
        return replace(view, **dropped), (*problems, *found)

    view = _page.begin(parse)
    names = {sae_choices.name_of(entry) for entry in sae_choices.usable(choices, model)}
    if not {*view.chain, *(getattr(view, field) for field in _SAES)} - {""} <= names:
        # Another model was chosen.
        view = replace(
            view, source="", target="", early="", late="", chain=(), cell=(), end=(), node=()
        )
        _page.note(view)
    return view


def change(**fields: Any) -> None:
    """Another view from the next run on; for callbacks of widgets."""
    if _OF_A_CELL & set(fields):
        fields = {"cell": (), "from_positions": (), "to_positions": ()} | fields
    if _OF_A_NODE & set(fields):
        fields = {"node": ()} | fields
    if _OF_AN_END & set(fields):
        fields = {"end": ()} | fields
    _page.change(**fields)


def tabs(view: GradientView) -> None:
    """The choice of what is looked at."""
    st.session_state["grad_tab"] = view.tab
    st.segmented_control(
        "What to look at",
        list(TABS),
        format_func=TABS.__getitem__,
        key="grad_tab",
        on_change=lambda: change(tab=st.session_state["grad_tab"] or view.tab),
        label_visibility="collapsed",
    )


def prompt(view: GradientView, example: str) -> str:
    """The box for the prompt; its text."""
    text = example if view.prompt is None else view.prompt
    st.session_state["grad_prompt"] = text
    st.text_area(
        "Prompt",
        key="grad_prompt",
        height=80,
        max_chars=MOST_CHARACTERS,
        on_change=lambda: change(prompt=st.session_state["grad_prompt"]),
        help="The text that the model reads. Press Ctrl+Enter (⌘+Enter on a Mac), or click "
        "elsewhere, to use it.",
    )
    return text


# Or else numbers behind text that is written from right to left would stand before it.
_LEFT_TO_RIGHT = "\u200e"


def tokens(texts: Sequence[str]) -> None:
    """The prompt as the model reads it, each token with its position."""
    parts = [
        f":gray-background[{exact_markdown(visible_token(text))}]"
        f":small[:gray[{_LEFT_TO_RIGHT}{position}]]"
        for position, text in enumerate(texts)
    ]
    st.markdown(" ".join(parts), help="The pieces that the model reads, each with its position.")


def sae(
    label: str,
    field: str,
    entries: Sequence[SaeEntry],
    chosen: SaeEntry,
    *,
    help: str | None = None,
) -> None:
    """A menu of SAEs for a field of the view."""
    names = {sae_choices.name_of(entry): sae_choices.title_of(entry) for entry in entries}
    key = f"grad_{field}"
    st.session_state[key] = sae_choices.name_of(chosen)
    st.selectbox(
        label,
        list(names),
        format_func=lambda name: names[name],
        key=key,
        on_change=lambda: change(**{field: st.session_state[key]}),
        help=help,
    )


def choice(label: str, field: str, options: dict[str, str], view: Any, **more: Any) -> None:
    """A row of choices for a field of the view."""
    key, value = f"grad_{field}", getattr(view, field)
    st.session_state[key] = value
    st.segmented_control(
        label,
        list(options),
        format_func=options.__getitem__,
        key=key,
        on_change=lambda: change(**{field: st.session_state[key] or value}),
        **more,
    )


def number(
    label: str, field: str, view: Any, low: float, high: float, help: str | None = None, **more: Any
) -> None:
    """A number of the view."""
    key, value = f"grad_{field}", getattr(view, field)
    st.session_state[key] = value
    st.number_input(
        label,
        low,
        high,
        key=key,
        on_change=lambda: change(**{field: st.session_state[key]}),
        help=help,
        **more,
    )


def flag(label: str, field: str, view: Any, help: str) -> None:
    """A switch of the view."""
    key = f"grad_{field}"
    st.session_state[key] = getattr(view, field)
    st.toggle(
        label,
        key=key,
        on_change=lambda: change(**{field: st.session_state[key]}),
        help=help,
    )


def method(view: GradientView) -> None:
    """How gradients are taken; in a popover, for they are rarely changed."""
    with st.popover("How gradients are taken", icon=":material/tune:"):
        flag(
            "Hold attention patterns",
            "freeze_attention",
            view,
            "Where each head looks then stays as it was, and only what it carries changes.",
        )
        flag(
            "Hold the scales of layer norms",
            "freeze_layer_norm",
            view,
            "What the norms divide by then stays as it was, so that effects add up more simply.",
        )
        if view.tab in ("latents", "logits"):
            st.session_state["grad_keep_error"] = view.keep_error
            st.radio(
                "What stands at the place of the earlier SAE",
                list(_ERRORS),
                format_func=_ERRORS.__getitem__,
                key="grad_keep_error",
                on_change=lambda: change(keep_error=st.session_state["grad_keep_error"]),
                help="Later latents are computed from it. Heads park their attention on the first "
                "token; an SAE that was not trained on it would change everything behind.",
            )
        if view.tab != "circuit":
            number(
                "Strongest latents computed (0: all)",
                "most",
                view,
                0,
                100_000,
                "For long prompts: only so many of the most active latents at each end.",
                step=100,
            )
