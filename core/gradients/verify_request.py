"""Do gradients predict what happens when a source is really changed? A check of some cells."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sae_lens import SAE

from core.gradients.display import Cell, place_of
from core.gradients.gradient_request import GradientResult, open_route
from core.gradients.matrix import GradientMatrix
from core.gradients.route import Route
from core.gradients.verify import Verification, changes
from core.lease import Lease
from core.models.hooks import Model
from core.plotly_text import escaped
from core.store import FRAME, Key, Store

_VERSION = 1
_CELLS_AT_FIRST = 5
_PANELS = (("step", "A small step (2 %)"), ("ablation", "Switched off"))
_COLOUR = "#1f77b4"


@dataclass(frozen=True, eq=False)
class Check:
    """Predicted and actual changes of some cells."""

    cells: tuple[Cell, ...]
    """The cells, in the order of the verification's rows."""
    names: tuple[str, ...]
    """Both ends of each, in words."""
    verification: Verification
    """What came of it."""


def check_key(result: GradientResult, cells: Sequence[Cell]) -> str:
    """Key of the job that verifies these cells."""
    text = json.dumps([result.request.key, [list(cell) for cell in cells]])
    return "gradient-check:" + hashlib.sha256(text.encode()).hexdigest()[:24]


def check(lease: Lease, store: Store, result: GradientResult, cells: Sequence[Cell]) -> Check:
    """Change the source of each cell, a little and altogether, and read its target.

    `lease` is of the model and SAEs of the result's request.

    Raises:
        ValueError: no cells, or cells that are not of this matrix.
        JobCancelled: through the lease's progress.
    """
    if not cells:
        raise ValueError("There are no cells to verify; choose at least one.")
    matrix = result.matrix
    found = [place_of(matrix, cell) for cell in cells]
    places = [place for place in found if place is not None]
    if len(places) < len(cells):
        raise ValueError("A chosen cell is not in this matrix any more; choose another.")

    def compute() -> pd.DataFrame:
        parts: list[pd.DataFrame] = []

        def some(model: Model, saes: list[SAE], first: int, last: int) -> None:
            route = open_route(result.request, model, saes).route
            parts.append(_changes(route, matrix, places[first:last]))

        lease.in_turns(len(places), some, unit="cells", message="Verifying", step=_CELLS_AT_FIRST)
        return pd.concat(parts, ignore_index=True)

    key = Key(
        "gradient-check",
        _VERSION,
        {"matrix": result.digest, "cells": [list(cell) for cell in cells]},
    )
    frame = store.get_or_compute(key, compute, FRAME, waiting=lease.progress.check)
    names = tuple(_name(matrix, place) for place in places)
    return Check(tuple(cells), names, Verification.of(frame))


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


def _changes(
    route: Route, matrix: GradientMatrix, places: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """Of some cells, the route narrowed to their ends."""
    rows, columns = (sorted({place[end] for place in places}) for end in (0, 1))
    numbers = [(rows.index(row), columns.index(column)) for row, column in places]
    device = route.source_values.device
    narrowed = route.restrict(
        targets=torch.tensor(rows, device=device), sources=torch.tensor(columns, device=device)
    )
    gradients = torch.from_numpy(matrix.values[rows][:, columns]).to(device)
    return changes(narrowed, gradients, numbers)


def _name(matrix: GradientMatrix, place: tuple[int, int]) -> str:
    source = matrix.sources["label"].iloc[place[1]]
    return f"{source} → {matrix.targets['label'].iloc[place[0]]}"
