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
from pages.parts import following, typed
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
_MOST_FOLLOWED = 600
"""Characters of a text typed elsewhere with which the page begins unasked: passes grow with it."""
_SAES = ("source", "target", "early", "late")
_MATRIX = ("tab", "prompt", "source", "target")
_page = PageState(
    "gradients",
    LINK,
    forgets={
        "cell": _MATRIX,
        "from_positions": _MATRIX,
        "to_positions": _MATRIX,
        "node": ("tab", "prompt", "chain", "end"),
        "end": ("prompt", "chain"),
        "pinned": ("prompt", "chain"),
        "groups": ("prompt", "chain"),
        "only_pinned": ("prompt", "chain"),
    },
)
problems, change = _page.problems, _page.change
widget, choices, menu = _page.widget, _page.choices, _page.menu
current = _page.current


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
                    sae_choices.check_name(choices, model, name)
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

    view = following.follow("gradients", _page, _page.begin(parse), "prompt", most=_MOST_FOLLOWED)
    names = {sae_choices.name_of(entry) for entry in sae_choices.usable(choices, model)}
    if not {*view.chain, *(getattr(view, field) for field in _SAES)} - {""} <= names:
        # Another model was chosen.
        view = replace(
            view, source="", target="", early="", late="", chain=(), cell=(), end=(), node=()
        )
        view = replace(view, pinned=(), groups=(), only_pinned=False)
        _page.note(view)
    return view


def tabs() -> None:
    """The choice of what is looked at."""
    st.segmented_control(
        "What to look at",
        list(TABS),
        required=True,
        format_func=TABS.__getitem__,
        label_visibility="collapsed",
        **choices("grad_tab", "tab"),
    )


def prompt(view: GradientView, example: str) -> str:
    """The box for the prompt; its text."""
    text = example if view.prompt is None else view.prompt
    typed.area(
        "Prompt",
        height=80,
        most=MOST_CHARACTERS,
        help="The text that the model reads. Press Ctrl+Enter (⌘+Enter on a Mac), or click "
        "elsewhere, to use it.",
        **widget("grad_prompt", "prompt", value=text, read=following.noting("gradients")),
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
    names = sae_choices.menu(entries)
    st.selectbox(
        label,
        format_func=lambda name: names[name],
        help=help,
        **menu(f"grad_{field}", field, list(names), value=sae_choices.name_of(chosen)),
    )


def choice(label: str, field: str, options: dict[str, str], **more: Any) -> None:
    """A row of choices for a field of the view."""
    st.segmented_control(
        label,
        list(options),
        required=True,
        format_func=options.__getitem__,
        **choices(f"grad_{field}", field),
        **more,
    )


def number(
    label: str, field: str, low: float, high: float, help: str | None = None, **more: Any
) -> None:
    """A number of the view."""
    st.number_input(
        label,
        low,
        high,
        help=help,
        **widget(f"grad_{field}", field),
        **more,
    )


def flag(label: str, field: str, help: str) -> None:
    """A switch of the view."""
    st.toggle(label, help=help, **widget(f"grad_{field}", field))


def method(view: GradientView) -> None:
    """How gradients are taken; in a popover, for they are rarely changed."""
    with st.popover("How gradients are taken", icon=":material/tune:"):
        flag(
            "Hold attention patterns",
            "freeze_attention",
            "Where each head looks then stays as it was, and only what it carries changes.",
        )
        flag(
            "Hold the scales of layer norms",
            "freeze_layer_norm",
            "What the norms divide by then stays as it was, so that effects add up more simply.",
        )
        if view.tab in ("latents", "logits"):
            st.radio(
                "What stands at the place of the earlier SAE",
                format_func=_ERRORS.__getitem__,
                help="Later latents are computed from it. Heads park their attention on the first "
                "token; an SAE that was not trained on it would change everything behind.",
                **menu("grad_keep_error", "keep_error", list(_ERRORS)),
            )
        if view.tab != "circuit":
            number(
                "Strongest latents computed (0: all)",
                "most",
                0,
                100_000,
                "For long prompts: only so many of the most active latents at each end.",
                step=100,
            )
