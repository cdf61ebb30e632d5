"""Two latents side by side: the same question, the same scales, what differs in the texts."""

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core.view.patch_scoping.scope_view import ScopeView
from pages.parts.patch_scoping import runs, state

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.texts import BestText
    from core.view.patch_scoping.workbench import ScopeRequest


def draw(
    request: "ScopeRequest",
    result: "ScopeResult",
    best: "BestText",
    by: str,
    scope: ScopeView,
    *,
    link: str,
) -> None:
    """The other latent's number, both best texts, and both tables as one."""
    from core.view.patch_scoping.texts import best_text, diff_markdown, side_by_side

    latent, last = request.latents[0], result.d_sae - 1
    other = scope.other if scope.other is not None else (latent + 1) % result.d_sae
    st.session_state["scope_other"] = min(other, last)
    other = int(
        st.number_input(
            f"Compare with latent (0 to {last})",
            0,
            last,
            key="scope_other",
            on_change=lambda: state.change(other=int(st.session_state["scope_other"])),
            width=240,
        )
    )
    found = runs.swept(replace(request, latents=(other,)), link=link, start=True)
    if found is None:
        return
    rival = best_text(found.table, by)  # type: ignore[arg-type]  # one of CHOICES
    texts = diff_markdown(best.text, rival.text)
    columns = st.columns(2)
    for column, name, text, one in zip(columns, (latent, other), texts, (best, rival), strict=True):
        with column:
            st.markdown(f"**Latent {name}**")
            st.markdown(text or "(the model says nothing)")
            st.caption(f"At {one.multiple:.4g} × the typical norm before layer {one.layer}.")
    st.caption("Words that only one of the two texts has are coloured.")
    both = {f"latent {latent}": result.table}
    both[f"latent {other}" if other != latent else f"latent {other} again"] = found.table
    st.dataframe(
        side_by_side(both),
        hide_index=True,
        width="stretch",
        column_config={
            "scale": st.column_config.NumberColumn("Scale", format="%.3g", width=60),
            "layer": st.column_config.NumberColumn("Layer", width=60),
        },
    )
