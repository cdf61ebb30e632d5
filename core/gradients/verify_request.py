"""Do gradients predict what happens when a source is really changed? The work of one job."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from core.engine import Engine
from core.gradients.display import Cell, place_of
from core.gradients.gradient_request import LEASE_SECONDS, GradientResult, open_route
from core.gradients.kept import key_of
from core.gradients.matrix import GradientMatrix
from core.gradients.prompt import prompt_ids
from core.gradients.route import Route
from core.gradients.verify import Verification, changes
from core.hub import HubErrorsInWords
from core.jobs.progress import Progress
from core.models.hooks import Model
from core.store import FRAME, Key, Store

_VERSION = 1
_AT_ONCE = 5
"""Cells between two looks at whether others should get their turn."""


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
    engine: Engine,
    store: Store,
    result: GradientResult,
    cells: Sequence[Cell],
    progress: Progress,
) -> Check:
    """Change the source of each cell, a little and altogether, and read its target.

    A few cells a lease, so that others get their turn; what was found before is kept.

    Raises:
        ValueError: no cells, or cells that are not of this matrix.
        JobCancelled: through `progress`.
    """
    if not cells:
        raise ValueError("There are no cells to verify; choose at least one.")
    matrix = result.matrix
    places = [place_of(matrix, cell) for cell in cells]
    kept = [place for place in places if place is not None]
    if len(kept) < len(cells):
        raise ValueError("A chosen cell is not in this matrix any more; choose another.")
    request = result.request
    names = [entry.key for entry in request.entries]

    def report(done: int, total: int | None, message: str) -> None:
        progress.update(done, total, unit="bytes", message=message)

    key: Key | None = None
    found: list[pd.DataFrame] = []
    while (done := sum(map(len, found))) < len(cells):
        with HubErrorsInWords(), engine.use(request.model, names, progress=report) as (model, saes):
            if key is None:
                key = _stored_as(result, model, cells)
                known = store.get(key, FRAME)
                if known is not None:
                    return _checked(matrix, cells, kept, known)
            route = open_route(request, model, saes).route
            began = time.monotonic()
            while done < len(cells):
                part = kept[done : done + _AT_ONCE]
                found.append(_changes(route, matrix, part))
                done += len(part)
                progress.update(done, len(cells), unit="cells", message="Verifying")
                if time.monotonic() - began > LEASE_SECONDS:
                    break
    frame = pd.concat(found, ignore_index=True)
    assert key is not None
    store.put(key, frame, FRAME)
    return _checked(matrix, cells, kept, frame)


def _checked(
    matrix: GradientMatrix,
    cells: Sequence[Cell],
    places: Sequence[tuple[int, int]],
    frame: pd.DataFrame,
) -> Check:
    named = tuple(_names(matrix, place) for place in places)
    return Check(tuple(cells), named, Verification.of(frame))


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


def _stored_as(result: GradientResult, model: Model, cells: Sequence[Cell]) -> Key:
    ids = prompt_ids(model, result.request.prompt)[0].tolist()
    matrix = key_of(result.request, model, ids, result.prints)
    return Key(
        "gradient-check", _VERSION, {"matrix": matrix.digest, "cells": [list(it) for it in cells]}
    )


def _names(matrix: GradientMatrix, place: tuple[int, int]) -> str:
    source = matrix.sources["label"].iloc[place[1]]
    return f"{source} → {matrix.targets['label'].iloc[place[0]]}"
