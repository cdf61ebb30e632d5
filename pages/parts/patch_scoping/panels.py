"""More about the answer, a panel at a time."""

from typing import TYPE_CHECKING

import streamlit as st

from core.view.patch_scoping.scope_view import ScopeView
from core.view.selection import Selection
from pages.parts import errors
from pages.parts.patch_scoping import state

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.texts import BestText
    from core.view.patch_scoping.workbench import ScopeRequest

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
        on_change=lambda: state.change(panel=st.session_state["scope_panel"] or scope.panel),
        label_visibility="collapsed",
    )
    with errors.shown_plainly():
        if scope.panel == "tuning":
            from pages.parts.patch_scoping import tuning

            tuning.draw(request, result, best, link=link)
        elif scope.panel == "layers":
            from pages.parts.patch_scoping import layers

            layers.draw(request, result)
        elif scope.panel == "controls":
            from pages.parts.patch_scoping import controls

            controls.draw(request, result, best, link=link)
        elif scope.panel == "compare":
            from pages.parts.patch_scoping import compare

            compare.draw(request, result, best, by, scope, link=link)
        elif scope.panel == "faithful":
            from pages.parts.patch_scoping import faithful

            faithful.draw(request, result, best, selection, link=link)
        elif scope.panel == "transfer":
            from pages.parts.patch_scoping import transfer

            transfer.draw(request, by, link=link)  # type: ignore[arg-type]  # one of CHOICES
        else:
            from pages.parts.patch_scoping import batch

            batch.draw(request, result, by, scope, link=link)
