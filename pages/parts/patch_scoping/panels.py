"""More about the answer, a panel at a time."""

from typing import TYPE_CHECKING

import streamlit as st

from core.patch_scoping.view import ScopeView
from pages.parts import errors
from pages.parts.patch_scoping import VIEW, batch, comparisons, faithful, scales, transfer

if TYPE_CHECKING:
    from core.patch_scoping.null_distribution import NullComparison
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
    own: "NullComparison | None",
    *,
    link: str,
) -> None:
    """The row of panels and the chosen one; `own` says whether the latent stands out."""
    st.segmented_control(
        "More about the answer",
        list(_TITLES),
        required=True,
        format_func=_TITLES.__getitem__,
        label_visibility="collapsed",
        **VIEW.choices("scope_panel", "panel"),
    )
    with errors.shown_plainly():
        if scope.panel == "tuning":
            scales.tuning(request, result, best, link=link)
        elif scope.panel == "layers":
            scales.layers(request, result)
        elif scope.panel == "controls":
            comparisons.controls(request, result, best, own, link=link)
        elif scope.panel == "compare":
            comparisons.another_latent(request, result, best, by, scope, link=link)
        elif scope.panel == "faithful":
            faithful.draw(request, result, best, link=link)
        elif scope.panel == "transfer":
            transfer.draw(request, by, link=link)  # type: ignore[arg-type]  # one of CHOICES
        else:
            batch.draw(request, result, by, scope, link=link)
