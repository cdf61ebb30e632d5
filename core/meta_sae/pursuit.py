"""Rows as few non-negative multiples of given directions: matching pursuit, no training."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array

_BYTES = 64 << 20


@torch.no_grad()
def matching_pursuit(
    rows: Float[np.ndarray, "n d"],
    directions: Float[np.ndarray, "m d"],
    *,
    k: int = 4,
    without: Int[np.ndarray, " n"] | None = None,
) -> csr_array:
    """Coefficients `[n, m]`, at most `k` above 0 a row, of directions taken at length 1.

    Each step takes the direction with the largest projection on what is left, and takes it off.
    Rows are decomposed as they are: the caller takes a mean off where it is not to be explained.
    `without` names for each row a direction that it must not use, such as itself.

    Raises:
        ValueError: rows and directions of different lengths, or k below 1.
    """
    if rows.shape[1] != directions.shape[1] or k < 1:
        raise ValueError(
            f"Rows have {rows.shape[1]} numbers, directions {directions.shape[1]}, and k is {k}; "
            "give directions of the rows' own space and k from 1."
        )
    unit = torch.from_numpy(np.ascontiguousarray(directions)).float()
    unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
    chosen, sizes = [], []
    step = max(1, _BYTES // (4 * len(unit)))
    for at in range(0, len(rows), step):
        rest = torch.from_numpy(np.ascontiguousarray(rows[at : at + step])).float()
        barred = None if without is None else torch.from_numpy(without[at : at + step])
        line = torch.arange(len(rest))
        latents, values = [], []
        for _ in range(k):
            projection = rest @ unit.T
            if barred is not None:
                projection[line, barred] = -torch.inf
            value, latent = projection.max(1)
            value = value.clamp_min(0)
            rest = rest - value[:, None] * unit[latent]
            latents.append(latent)
            values.append(value)
        chosen.append(torch.stack(latents, 1).numpy())
        sizes.append(torch.stack(values, 1).numpy())
    column, value = np.concatenate(chosen), np.concatenate(sizes)
    row = np.repeat(np.arange(len(rows)), k)
    found = csr_array((value.ravel(), (row, column.ravel())), shape=(len(rows), len(unit)))
    found.sum_duplicates()
    found.eliminate_zeros()
    return found
