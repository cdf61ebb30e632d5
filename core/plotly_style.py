"""Margins, legend and axis titles that the figures of several features share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pages read the charts' module before plotly is there
    import plotly.graph_objects as go


def titled(drawing: "go.Figure", x: str, y: str, *, height: int, top: int = 40) -> "go.Figure":
    """The drawing with axis titles, its legend in a row above it; `height` and `top` in pixels."""
    drawing.update_layout(
        height=height,
        margin={"l": 60, "r": 8, "t": top, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    drawing.update_xaxes(title_text=x)
    drawing.update_yaxes(title_text=y)
    return drawing


def small_bars(drawing: "go.Figure", x: str, y: str, *, height: int) -> "go.Figure":
    """The drawing as a small histogram that stands in a column and is not moved or zoomed."""
    drawing.update_layout(
        height=height,
        margin={"l": 56, "r": 8, "t": 8, "b": 44},
        bargap=0,
        showlegend=False,
        dragmode=False,
    )
    drawing.update_xaxes(title_text=x, fixedrange=True)
    drawing.update_yaxes(title_text=y, fixedrange=True)
    return drawing
