"""Tables whose lines can be clicked."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts import programs


def clickable(
    table: Any,
    on_line: Callable[[int], None],
    *,
    key: str,
    on_none: Callable[[], None] | None = None,
    **options: Any,
) -> None:
    """A table; a click anywhere on a line calls `on_line` with its number.

    So does the box in front of a line, for the keyboard; `on_none` is called when the choice is
    taken back. Streamlit's own choice of lines knows the box alone.
    """
    if programs.is_one():  # which sets the number that stands in a line
        st.dataframe(table, hide_index=True, key=key, **options)
        return
    n = len(table)

    def changed() -> None:
        chosen: Any = st.session_state[key].selection
        now = list(chosen["rows"]), [tuple(cell) for cell in chosen["cells"]]
        before = st.session_state.get(f"{key}_before", ([], []))
        st.session_state[f"{key}_before"] = now
        (rows, cells), (_, cells_before) = now, before
        clicked = [cells[-1][0]] if cells and cells != cells_before else rows
        if clicked and 0 <= int(clicked[-1]) < n:
            on_line(int(clicked[-1]))
        elif not (clicked or cells) and on_none is not None:
            on_none()

    st.dataframe(
        table,
        hide_index=True,
        key=key,
        on_select=changed,
        selection_mode=["single-row", "single-cell"],
        **options,
    )
