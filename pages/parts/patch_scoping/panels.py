"""More about the answer, a panel at a time."""

from typing import TYPE_CHECKING

import streamlit as st

from core.patch_scoping.view import ScopeView
from core.view.selection import Selection
from pages.parts import errors
from pages.parts.patch_scoping import VIEW, batch, comparisons, faithful, scales, transfer

if TYPE_CHECKING:
    from core.patch_scoping.run import ScopeRequest, ScopeResult
    from core.patch_scoping.tables import BestText

_TITLES = {
    "tuning": "Scale tuning",
    "layers": "Layers",
    "controls": "Controls",
    "compare": "Another latent",
    "faithful": "Does the text fit?",
    "transfer": "Does the SAE fit?",
    "batch": "Many latents",
}


def draw(
    request: "ScopeRequest",
    result: "ScopeResult",
    best: "BestText",
    by: str,
    scope: ScopeView,
    selection: Selection,
    *,
    link: str,
) -> None:
    """The row of panels and the chosen one."""
    st.session_state["scope_panel"] = scope.panel
    st.segmented_control(
        "More about the answer",
        list(_TITLES),
        format_func=_TITLES.__getitem__,
        key="scope_panel",
        on_change=lambda: VIEW.change(panel=st.session_state["scope_panel"] or scope.panel),
        label_visibility="collapsed",
    )
    with errors.shown_plainly():
        if scope.panel == "tuning":
            scales.tuning(request, result, best, link=link)
        elif scope.panel == "layers":
            scales.layers(request, result)
        elif scope.panel == "controls":
            comparisons.controls(request, result, best, link=link)
        elif scope.panel == "compare":
            comparisons.another_latent(request, result, best, by, scope, link=link)
        elif scope.panel == "faithful":
            faithful.draw(request, result, best, selection, link=link)
        elif scope.panel == "transfer":
            transfer.draw(request, by, link=link)  # type: ignore[arg-type]  # one of CHOICES
        else:
            batch.draw(request, result, by, scope, link=link)
