"""Which latents fire together most."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array

_CHUNK = 512


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
        joint = (by_latent[start:stop] @ ones).tocoo()
        one, other, both = joint.row.astype(np.int64) + start, joint.col, joint.data
        kept = (one != other) & (both >= min_together)
        one, other, both = one[kept], other[kept], both[kept]
        jaccard = both / (counts[one] + counts[other] - both)
        order = np.lexsort((other, -jaccard, one))
        one, other, both = one[order], other[order], both[order]
        first = np.searchsorted(one, np.arange(start, stop))
        slot = np.arange(len(one)) - first[one - start]
        best = slot < n_partners
        partners[one[best], slot[best]] = other[best]
        together[one[best], slot[best]] = both[best]
    return partners, together
