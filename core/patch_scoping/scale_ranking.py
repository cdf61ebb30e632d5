"""Which scale lets the model speak? Scales ranked by what was measured at each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.patch_scoping.diagnostics import Diagnostics

SIMILARITY_WEIGHT = 0.4
"""Weight of the self-similarity, after min-max over the sweep; the rest goes to cross-entropy."""

LONG_RANGE = 30.0
"""Largest over smallest scale from which they are looked at by factors rather than by steps."""
_ROUNDING = 1e-5
_FEWEST, _POINTS = 12, 20


def is_long_range(scales: Sequence[float] | Float[np.ndarray, " n"]) -> bool:
    """Whether these scales, all above 0, are too far apart for an axis with even steps."""
    return bool(0 < np.min(scales) < np.max(scales) / LONG_RANGE)


def scales_between(scales: Sequence[float]) -> tuple[float, ...]:
    """Scales to draw a curve with: those given; where they are under 12, 20 over the same range.

    They are evenly spaced, or by equal factors over a long range, which leaves out 0. Ascending,
    each once, rounded to four decimals.
    """
    given = np.unique(np.asarray(scales, dtype=float))
    positive = given[given > 0]
    by_factors = len(positive) > 1 and is_long_range(positive)
    kept = positive if by_factors else given
    if 1 < len(kept) < _FEWEST:
        kept = (np.geomspace if by_factors else np.linspace)(kept[0], kept[-1], _POINTS)
    return tuple(round(float(scale), 4) for scale in kept)


def diagnostics_table(found: Diagnostics, row: int = 0) -> pd.DataFrame:
    """Measures of direction number `row`, a row a scale."""
    missing = np.full_like(found.scales, np.nan)
    first, second = found.first_derivative, found.second_derivative
    return pd.DataFrame(
        {
            "scale": found.scales,
            "self_similarity": found.self_similarity[row],
            "first_derivative": missing if first is None else first[row],
            "second_derivative": missing if second is None else second[row],
            "entropy": found.entropy[row],
            "cross_entropy": found.cross_entropy[row],
        }
    )


def combined_score(
    self_similarity: Float[np.ndarray, "... m"],
    cross_entropy: Float[np.ndarray, "... m"],
    *,
    similarity_weight: float = SIMILARITY_WEIGHT,
) -> Float[np.ndarray, "... m"]:
    """w·self-similarity - (1 - w)·cross-entropy, each min-max normalised over the m scales.

    Larger is better. The metric is that of the authors of self-explanation (Kharlapenko et al.
    2024), with w = 0.4. A measure that does not vary counts as 0 everywhere.
    """
    if not 0 <= similarity_weight <= 1:
        raise ValueError(f"similarity_weight is {similarity_weight}; use 0 to 1.")
    similar, far = _min_max(self_similarity), _min_max(cross_entropy)
    return similarity_weight * similar - (1 - similarity_weight) * far


def rank_scales(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = (),
    keep: int = 3,
    similarity_weight: float = SIMILARITY_WEIGHT,
) -> pd.DataFrame:
    """A copy of `table` with `score`, `rank` (1 is best) and `best` (among the first `keep`).

    Scales compete within each group of the columns `by`. Of equal scores the smaller scale wins.

    Raises:
        ValueError: a table without scale, self_similarity and cross_entropy, or `keep` below 1.
    """
    needed = {"scale", "self_similarity", "cross_entropy", *by}
    if not needed <= set(table.columns):
        raise ValueError(f"The table lacks {', '.join(sorted(needed - set(table.columns)))}.")
    if keep < 1:
        raise ValueError(f"keep is {keep}; keep 1 or more scales.")
    ranked = table.copy()
    ranked["score"] = np.nan
    ranked["rank"] = 0
    groups = table.groupby(list(by), sort=False).indices.values() if by else [range(len(table))]
    for group in groups:
        rows = np.asarray(group)
        part = table.iloc[rows]
        # Samples at one scale share its measures and its rank.
        scales, first, back = np.unique(part["scale"], return_index=True, return_inverse=True)
        score = combined_score(
            part["self_similarity"].to_numpy()[first],
            part["cross_entropy"].to_numpy()[first],
            similarity_weight=similarity_weight,
        )
        place = np.empty(len(scales), dtype=int)
        place[np.argsort(-score, kind="stable")] = np.arange(1, len(scales) + 1)
        ranked.iloc[rows, ranked.columns.get_loc("score")] = score[back]
        ranked.iloc[rows, ranked.columns.get_loc("rank")] = place[back]
    ranked["best"] = ranked["rank"] <= keep
    return ranked


def _min_max(values: Float[np.ndarray, "... m"]) -> Float[np.ndarray, "... m"]:
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    # What differs by rounding alone does not differ: it would be blown up to the full range.
    rounding = _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    span = np.where(high - low > rounding, high - low, np.inf)
    return (values - low) / span
