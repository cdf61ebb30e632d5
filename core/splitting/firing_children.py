"""Parents and children by what the activations say: a child fires where its parent does.

The parent of a wide latent is the latent of the narrower SAE that is most likely to fire where it
does. Latents that fire nearly everywhere would be everybody's parent, and are not considered.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from core.splitting.cofiring import MIN_FIRINGS, cofiring, firing_counts, ones_where_firing

THRESHOLD = 0.5
"""Lowest P(parent fires | child fires)."""
DENSE = 0.1
"""A narrow latent that fires on a larger share of positions is nobody's parent."""


def firing_parents(
    narrow: csr_array,
    wide: csr_array,
    latents: Int[np.ndarray, " n"],
    *,
    max_frequency: float = DENSE,
) -> pd.DataFrame:
    """For some wide latents the narrow one that is most likely to fire where they do.

    Returns:
        One row for each of `latents`, in their order: `latent_idx`, `n_firings` (positions),
        `parent_idx` (-1 where no latent of the narrow SAE that is considered ever fires with it;
        of several equally likely ones the most specific, that is the rarest) and
        `p_parent_given_child` (NaN where it never fires).
    """
    ours = ones_where_firing(narrow)
    counts = firing_counts(narrow)
    too_dense = counts > max_frequency * narrow.shape[0]
    joint = (ones_where_firing(wide[:, latents]).T @ ours).tocsr()
    child, column = np.repeat(np.arange(len(latents)), np.diff(joint.indptr)), joint.indices
    considered = ~too_dense[column]
    child, column, both = child[considered], column[considered], joint.data[considered]
    # Ascending, so that the last of each child's rows is its best.
    order = np.lexsort((column, -counts[column], both, child))
    child, column, both = child[order], column[order], both[order]
    last = np.flatnonzero(np.diff(child, append=-1))
    parents, most = np.full(len(latents), -1), np.zeros(len(latents))
    parents[child[last]], most[child[last]] = column[last], both[last]
    n_firings = firing_counts(wide)[latents]
    with np.errstate(invalid="ignore"):
        share = most / n_firings
    columns = {"latent_idx": latents, "n_firings": n_firings, "parent_idx": parents}
    return pd.DataFrame(columns | {"p_parent_given_child": share})


def firing_children(
    narrow: csr_array,
    wide: csr_array,
    latent: int,
    *,
    threshold: float = THRESHOLD,
    min_firings: int = MIN_FIRINGS,
    max_frequency: float = DENSE,
    projections: Float[np.ndarray, " d_wide"] | None = None,
) -> pd.DataFrame:
    """The wide latents of which `latent` is the parent, those that cover most of it first.

    Returns:
        The rows of `cofiring` that reach `threshold` in `p_parent_given_child` and whose parent
        `latent` is; highest `share_of_mass` first.

    Raises:
        ValueError: matrices of different positions, or a latent that does not exist.
    """
    table = cofiring(narrow, wide, latent, projections=projections, min_firings=min_firings)
    table = table[table["p_parent_given_child"] >= threshold]
    parents = firing_parents(
        narrow, wide, table["latent_idx"].to_numpy(), max_frequency=max_frequency
    )
    mine = table[(parents["parent_idx"] == latent).to_numpy()]
    return mine.sort_values("share_of_mass", ascending=False, kind="stable", ignore_index=True)
