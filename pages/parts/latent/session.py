"""The view of the latent page in this session, and tables whose lines choose another latent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from core.latent.view import LINK, MOST_CHARACTERS, LatentPageView
from core.view.selection import Selection
from pages.parts import following, scroll, tables, view_state
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import pandas as pd

# A place in one text means nothing in another.
_state = PageState("latent", LINK, forgets={"opened": ("corpus", "tokens", "include_bos")})
begin, current, problems = _state.begin, _state.current, _state.problems
change, note = _state.change, _state.note
widget, choices, menu = _state.widget, _state.choices, _state.menu


def follow(view: LatentPageView) -> LatentPageView:
    """The view with the text that was typed on another page since."""
    return following.follow("latent", _state, view, "text", most=MOST_CHARACTERS)


def open_dashboard() -> None:
    """Show the dashboard, from its top; for callbacks of widgets."""
    change(tab="dashboard")
    scroll.to_top()


def text_of_box(text: str) -> str:
    """What a view holds of a box for text: an emptied one stays empty; "" means a proposal."""
    return text or " "


def draw_clickable_table(
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

    def chosen(line: int) -> None:
        view_state.choose(targets[line])
        if opens_dashboard:
            open_dashboard()

    tables.clickable(
        table,
        chosen,
        key=key,
        height=height,
        column_config={
            "latent": st.column_config.NumberColumn(format="%d", width="small"),
            "width": st.column_config.NumberColumn(format="%d", width="small"),
            "description": st.column_config.TextColumn(width="large"),
            **(columns or {}),
        },
    )
