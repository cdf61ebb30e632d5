"""Which part of the map is visible, and which names have room there?"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Int

View = tuple[float, float, float, float]
"""Corners of what is visible: x from, x to, y from, y to."""

_LETTER, _LINE = 7.0, 19.0  # pixels
_RING = 12.0  # pixels from the middle of a chosen point
_DRAWN_ABOUT = (680, 660)  # pixels that the map is taken to have


def view_around(points: pd.DataFrame, rows: Iterable[int], *, margin: float = 0.05) -> View:
    """What to show so that these rows are visible, with `margin` of the extent on each side.

    Raises ValueError when there is no such row.
    """
    chosen = points.iloc[checked_rows(rows, len(points))]
    if chosen.empty:
        raise ValueError("There are no points to show; choose at least one.")
    corners: list[float] = []
    for column in ("umap_x", "umap_y"):
        low, high = float(chosen[column].min()), float(chosen[column].max())
        room = max((high - low) * margin, 0.5)
        corners += [low - room, high + room]
    return corners[0], corners[1], corners[2], corners[3]


def labels_without_overlap(
    labels: pd.DataFrame, view: View, *, clear: Iterable[tuple[float, float]] = ()
) -> pd.DataFrame:
    """Those of `labels` (`x`, `y`, `text`) inside `view` that cover no earlier one.

    The places `clear` on the map are not covered either.
    """
    x_from, x_to, y_from, y_to = view
    x_scale, y_scale = _DRAWN_ABOUT[0] / (x_to - x_from), _DRAWN_ABOUT[1] / (y_to - y_from)
    kept = [(x * x_scale, y * y_scale, _RING) for x, y in clear]
    chosen = []
    for i, (x, y, text) in enumerate(zip(labels["x"], labels["y"], labels["text"], strict=True)):
        if not (x_from <= x <= x_to and y_from <= y <= y_to):
            continue
        half = len(str(text)) * _LETTER / 2 + 4
        at_x, at_y = x * x_scale, y * y_scale
        if all(
            abs(at_x - other_x) > half + other_half or abs(at_y - other_y) > _LINE
            for other_x, other_y, other_half in kept
        ):
            kept.append((at_x, at_y, half))
            chosen.append(i)
    return labels.iloc[chosen]


def checked_rows(rows: Iterable[int], n: int) -> Int[np.ndarray, " k"]:
    """Row numbers as an array, each once, sorted. Raises ValueError for rows that do not exist."""
    numbers = np.unique(np.fromiter(rows, dtype=np.int64))
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < n:
        wrong = numbers[0] if numbers[0] < 0 else numbers[-1]
        raise ValueError(f"There is no row {wrong}; the map has rows 0 to {n - 1}.")
    return numbers
