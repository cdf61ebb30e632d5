"""Predicted against actual changes, as a pair of scatter plots."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.gradients.verify_request import Check
from core.plotly_text import escaped

_PANELS = (("step", "A small step (2 %)"), ("ablation", "Switched off"))
_COLOUR = "#1f77b4"


def check_figure(found: Check, *, dark: bool = False) -> go.Figure:
    """A point a cell, on the diagonal where the gradient predicts well; left small steps."""
    figure = make_subplots(
        cols=2, subplot_titles=[title for _, title in _PANELS], horizontal_spacing=0.12
    )
    cells = found.verification.cells
    for column, (change, _) in enumerate(_PANELS, start=1):
        predicted, actual = (
            cells[f"{side}_{change}"].to_numpy(np.float64) for side in ("predicted", "actual")
        )
        low, high = (
            float(min(predicted.min(), actual.min())),
            float(max(predicted.max(), actual.max())),
        )
        margin = 0.05 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        line: dict[str, Any] = {"color": "gray", "dash": "dash", "width": 1}
        figure.add_trace(
            go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip"), 1, column
        )
        died = cells[f"died_{change}"].to_numpy(bool)
        figure.add_trace(
            go.Scatter(
                x=predicted,
                y=actual,
                mode="markers",
                marker={
                    "size": 9,
                    "color": _COLOUR,
                    "symbol": np.where(died, "x", "circle").tolist(),
                },
                customdata=[escaped(name) for name in found.names],
                hovertemplate="%{customdata}<br>predicted %{x:.4g}<br>actual %{y:.4g}"
                "<extra></extra>",
            ),
            1,
            column,
        )
        figure.update_xaxes(title_text="Predicted change", row=1, col=column)
        figure.update_yaxes(title_text="Actual change", row=1, col=column)
    figure.update_layout(
        showlegend=False,
        height=410,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 70, "b": 20},
    )
    return figure
