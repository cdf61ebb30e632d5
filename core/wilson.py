"""How small may a share be, of which only a sample was seen? For many shares at once.

For a single one there is `scipy.stats.binomtest`.
"""

import numpy as np
from jaxtyping import Float, Int

_Z95 = 1.959963984540054


def wilson_low(
    hits: Int[np.ndarray, " n"], of: Int[np.ndarray, " n"] | Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Lower end of the 95 % interval (Wilson, 1927) of the share `hits` / `of`.

    0 of nothing; NaN where `of` is not known (NaN) or smaller than `hits`.
    """
    n = np.maximum(np.asarray(of, dtype=np.float64), 1)
    share, z2 = hits / n, _Z95**2
    with np.errstate(invalid="ignore"):
        spread = _Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return np.clip((share + z2 / (2 * n) - spread) / (1 + z2 / n), 0, 1)
