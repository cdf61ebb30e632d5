"""Buttons that hand out tables and figures; files are made at the click."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def table(make: "Callable[[], pd.DataFrame]", name: str, *, key: str, what: str = "Table") -> None:
    """The table as CSV and as Parquet, named `name.csv` and `name.parquet`.

    `what` tells the buttons of several tables on one page apart.
    """
    from core.export import csv_bytes, parquet_bytes

    with st.container(horizontal=True, gap="small"):
        _button(f"{what} (CSV)", lambda: csv_bytes(make()), f"{name}.csv", f"{key}_csv")
        _button(
            f"{what} (Parquet)", lambda: parquet_bytes(make()), f"{name}.parquet", f"{key}_parquet"
        )


def figure(
    drawing: "go.Figure | Callable[[], go.Figure]",
    name: str,
    *,
    title: str,
    key: str,
    what: str = "Page",
) -> None:
    """The figure as a page that opens without a network; the figure's camera saves images.

    `drawing` makes the figure where the page does not show this one. `what` tells the buttons of
    several figures on one page apart.
    """
    from core.export import figure_html

    _button(
        f"{what} (HTML)",
        lambda: figure_html(drawing() if callable(drawing) else drawing, title=title).encode(),
        f"{name}.html",
        f"{key}_html",
    )


def _button(label: str, make: Callable[[], bytes], file_name: str, key: str) -> None:
    st.download_button(
        label,
        make,
        file_name.replace("/", "_"),
        on_click="ignore",
        key=key,
        icon=":material/download:",
    )
