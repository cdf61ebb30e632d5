"""How strong is an activation for this latent? Its place in the latent's own distribution."""

import numpy as np
from jaxtyping import Float, Int

from core.activations.bins import cell_width


def activation_quantiles(
    cell_counts: Int[np.ndarray, "n cells"],
    peak: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Share of a latent's firings in the index that are weaker than each value, 0 to 1.

    Row i of the first two (as `LatentIndex` has them) belongs to `values[i]`. Within one of the
    histogram's cells, each 1/32 to 1/16 of the peak wide, firings are taken as evenly spread, which
    bounds the error by the share of the firings in that cell. A value above the latent's peak in
    the index gives 1. NaN for a latent that never fired there.
    """
    peak = np.asarray(peak, dtype=np.float64)
    counts = np.asarray(cell_counts, dtype=np.float64)
    width = cell_width(np.asarray(peak, dtype=np.float32))
    n_cells = counts.shape[1]
    place = np.clip(np.asarray(values, dtype=np.float64) / width, 0, n_cells)
    cell = np.minimum(place.astype(np.int64), n_cells - 1)
    rows = np.arange(len(counts))
    # The cell of the peak ends at the peak.
    upper = np.minimum(cell + 1, np.maximum(peak / width, cell + 1e-12))
    inside = np.clip((place - cell) / (upper - cell), 0, 1)
    total = counts.sum(axis=1)
    below = counts.cumsum(axis=1)[rows, cell] - counts[rows, cell]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (below + inside * counts[rows, cell]) / total
    share = np.where(values > peak, 1.0, share)
    return np.where(total > 0, np.clip(share, 0, 1), np.nan)
