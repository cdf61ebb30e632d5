"""Tables and figures as files."""

import html
import io

import pandas as pd
import plotly.graph_objects as go

from core.csv_text import LINE_END, harmless_table

SEE_THROUGH = "rgba(0,0,0,0)"
"""Background of a figure through which that of the page is seen."""


def csv_bytes(table: pd.DataFrame, *, index_label: str | None = None) -> bytes:
    """The table as CSV in UTF-8, marked as such for spreadsheets; reads back with pandas.

    Texts that a spreadsheet would run get an apostrophe in front (`core.csv_text`). The index is
    left out unless it has a label.
    """
    text = harmless_table(table).to_csv(
        index=index_label is not None, index_label=index_label, lineterminator=LINE_END
    )
    return text.encode("utf-8-sig", errors="replace")


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """The table as Parquet, column types kept."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def figure_html(figure: go.Figure, *, title: str) -> str:
    """A page of its own, with everything it needs inside (some 5 MB), to open without a network.

    Figures for the app's pages are see-through; here they get the background of their template.
    """
    figure = go.Figure(figure)
    template = figure.layout.template.layout
    for part in ("paper_bgcolor", "plot_bgcolor"):
        if figure.layout[part] in (None, SEE_THROUGH):
            figure.layout[part] = template[part] or "#ffffff"
    background = figure.layout.paper_bgcolor
    body = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        default_height="100%",
        config={"responsive": True, "displaylogo": False, "scrollZoom": True},
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title></head>"
        f'<body style="margin:0;background:{background}">{body}</body></html>'
    )
