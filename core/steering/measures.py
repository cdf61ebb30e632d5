"""Means with intervals, and which settings are worth considering."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats


def mean_interval(
    values: Float[np.ndarray, " n"] | Sequence[float], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean, and both ends of Student's interval for it; NaN ends for fewer than two values.

    Values that are not finite are left out.
    """
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    if len(array) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(array.mean())
    if len(array) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1))
    half /= len(array) ** 0.5
    return mean, mean - half, mean + half


def frontier(
    damage: Float[np.ndarray, " n"], concept: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which points no other beats: none has as little damage and as much concept, and more of one.

    Points that are not finite are on no frontier.
    """
    known = np.isfinite(damage) & np.isfinite(concept)
    as_good = (damage[None] <= damage[:, None]) & (concept[None] >= concept[:, None])
    better = (damage[None] < damage[:, None]) | (concept[None] > concept[:, None])
    beaten = (as_good & better & known[None]).any(1)
    return known & ~beaten
