"""Do gradients predict what happens when a source is really changed? The work of one job."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from core.engine import Engine
from core.gradients.matrix import GradientMatrix
from core.gradients.verify import Verification, verify
from core.jobs.progress import Progress
from core.view.gradients.compute import GradientResult, open_route
from core.view.gradients.shown import Cell, place_of


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


def check(
    engine: Engine, result: GradientResult, cells: Sequence[Cell], progress: Progress
) -> Check:
    """Change the source of each cell, a little and altogether, and read its target.

    Raises:
        ValueError: no cells, or cells that are not of this matrix.
    """
    if not cells:
        raise ValueError("There are no cells to verify; choose at least one.")
    matrix = result.matrix
    places = [place_of(matrix, cell) for cell in cells]
    kept = [(cell, place) for cell, place in zip(cells, places, strict=True) if place is not None]
    if len(kept) < len(cells):
        raise ValueError("A chosen cell is not in this matrix any more; choose another.")
    rows = sorted({place[0] for _, place in kept})
    columns = sorted({place[1] for _, place in kept})
    numbers = [(rows.index(place[0]), columns.index(place[1])) for _, place in kept]
    request = result.request
    names = [entry.key for entry in request.entries]
    with engine.use(request.model, names) as (model, saes):
        route = open_route(request, model, saes).route
        device = route.source_values.device
        narrowed = route.restrict(
            targets=torch.tensor(rows, device=device), sources=torch.tensor(columns, device=device)
        )
        gradients = torch.from_numpy(matrix.values[rows][:, columns]).to(device)
        found = verify(narrowed, gradients, numbers, progress=progress)
    named = tuple(_names(matrix, place) for _, place in kept)
    return Check(tuple(cell for cell, _ in kept), named, found)


def _names(matrix: GradientMatrix, place: tuple[int, int]) -> str:
    source = matrix.sources["label"].iloc[place[1]]
    return f"{source} → {matrix.targets['label'].iloc[place[0]]}"
