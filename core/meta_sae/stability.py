"""Do two dictionaries hold the same directions?"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

TWIN = 0.7
"""Cosine from which two meta-latents count as one."""


def matched_cosines(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " n"]:
    """Cosine of each direction of `first` with its partner in `second`, each used once, so that
    the sum of cosines is largest (Hungarian method); NaN where it has none."""
    a = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    b = second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-12)
    cosine = a @ b.T
    rows, columns = linear_sum_assignment(-cosine)
    found = np.full(len(first), np.nan)
    found[rows] = cosine[rows, columns]
    return found
