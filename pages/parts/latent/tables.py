"""Tables of latents whose lines lead to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from core.view.selection import Selection
from pages.parts import view_state
from pages.parts.latent import state

if TYPE_CHECKING:
    import pandas as pd


def choosable(
    table: "pd.DataFrame",
    targets: Sequence[Selection],
    *,
    key: str,
    height: int | Literal["auto"] = "auto",
    columns: "dict[str, Any] | None" = None,
    opens_dashboard: bool = False,
) -> None:
    """A table with a target for each of its lines; a click on a line selects it.

    With `opens_dashboard`, the page shows its dashboard then, whatever part it showed before.
    """

    def chosen() -> None:
        event: Any = st.session_state[key]
        lines = event.selection["rows"]
        if lines and lines[0] < len(targets):
            view_state.choose(targets[lines[0]])
            if opens_dashboard:
                state.change(tab="dashboard")

    st.dataframe(
        table,
        hide_index=True,
        key=key,
        on_select=chosen,
        selection_mode="single-row",
        height=height,
        column_config={
            "latent": st.column_config.NumberColumn(format="%d", width="small"),
            "width": st.column_config.NumberColumn(format="%d", width="small"),
            "description": st.column_config.TextColumn(width="large"),
            **(columns or {}),
        },
    )
