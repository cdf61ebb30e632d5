"""Which latents fire together most."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

_CHUNK = 512
_FIRST_OCTAVE, _BINS_PER_OCTAVE = -20, 16
_LAST_BIN = -_FIRST_OCTAVE * _BINS_PER_OCTAVE


def strongest_partners(
    firings: "csr_array",
    n_partners: int,
    *,
    min_together: int = 2,
    check: Callable[[], None] | None = None,
) -> tuple[Int[np.ndarray, "d_sae n"], Int[np.ndarray, "d_sae n"]]:
    """For each latent, the others with the highest Jaccard index of firing positions.

    `firings` is [positions, d_sae], nonzero where a latent fires; counts on it are exact. Returns
    latents (int32, -1 where there are fewer) and positions at which both fire, best first, lower
    latents first among equals. Pairs together at fewer than `min_together` positions are left out.
    The product is made for 512 latents at a time.
    """
    d_sae = firings.shape[1]
    partners = np.full((d_sae, n_partners), -1, dtype=np.int32)
    together = np.zeros((d_sae, n_partners), dtype=np.int32)
    if n_partners == 0 or firings.nnz == 0:
        return partners, together
    ones = csr_array(
        (np.ones(firings.nnz, np.int32), firings.indices, firings.indptr), shape=firings.shape
    )
    by_latent = ones.T.tocsr()
    counts = np.diff(by_latent.indptr).astype(np.int64)
    for start in range(0, d_sae, _CHUNK):
        if check is not None:
            check()
        stop = min(start + _CHUNK, d_sae)
        joint = by_latent[start:stop] @ ones
        row = np.repeat(np.arange(stop - start), np.diff(joint.indptr))
        often = np.flatnonzero(joint.data >= min_together)
        row, other, both = row[often], joint.indices[often], joint.data[often]
        jaccard = both / (counts[start:stop][row] + counts[other] - both)
        # One more than wanted, as each latent is its own best partner.
        best = _among_largest(row, jaccard, n_partners + 1, stop - start)
        best = best[row[best] + start != other[best]]
        one, other, both, jaccard = row[best] + start, other[best], both[best], jaccard[best]
        order = np.lexsort((other, -jaccard, one))
        one, other, both = one[order], other[order], both[order]
        first = np.searchsorted(one, np.arange(start, stop))
        slot = np.arange(len(one)) - first[one - start]
        shown = slot < n_partners
        partners[one[shown], slot[shown]] = other[shown]
        together[one[shown], slot[shown]] = both[shown]
    return partners, together


def _among_largest(
    row: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"], k: int, n_rows: int
) -> Int[np.ndarray, " m"]:
    """Indices of entries among which are the `k` largest of each row, and all equal to the k-th.

    Values lie in (0, 1]. They are counted in bins rather than sorted: of each row, what lies in
    the bin of the k-th largest or above it stays.
    """
    # The leading bits of a positive float64 are the octave and the first four binary digits.
    leading = (value.view(np.int64) >> 48) - ((1023 + _FIRST_OCTAVE) << 4)
    bins = np.maximum(leading, 0)
    width = _LAST_BIN + 1
    counts = np.bincount(row * width + bins, minlength=n_rows * width).reshape(n_rows, width)
    at_least = counts[:, ::-1].cumsum(1)[:, ::-1]
    bound = np.maximum((at_least >= k).sum(1) - 1, 0)
    return np.flatnonzero(bins >= bound[row])
