"""The view of the page of gradients in this session."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.gradients import sae_choices
from core.gradients.page_view import LINK, GradientView
from core.view.choices import Choices
from pages.parts.page_state import PageState

_state = PageState("gradients", LINK)
current, problems = _state.current, _state.problems
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

    view = _state.begin(parse)
    names = {sae_choices.name_of(entry) for entry in sae_choices.usable(choices, model)}
    if not {*view.chain, *(getattr(view, it) for it in _SAES)} - {""} <= names:
        # Another model was chosen.
        view = replace(
            view, source="", target="", early="", late="", chain=(), cell=(), end=(), node=()
        )
        _state.note(view)
    return view


def change(**fields: Any) -> None:
    """Another view from the next run on; for callbacks of widgets."""
    if _OF_A_CELL & set(fields):
        fields = {"cell": (), "from_positions": (), "to_positions": ()} | fields
    if _OF_A_NODE & set(fields):
        fields = {"node": ()} | fields
    if _OF_AN_END & set(fields):
        fields = {"end": ()} | fields
    _state.change(**fields)
