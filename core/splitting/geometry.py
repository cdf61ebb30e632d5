"""How tight is a cluster, and which latent is most typical of it? Asked of the directions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ClusterGeometry:
    """What the directions say of each cluster, by its number."""

    compactness: Float[np.ndarray, " n_clusters"]
    """Mean cosine of the latents with the mean direction of their cluster; 1 if all are equal."""
    medoids: Int[np.ndarray, " n_clusters"]
    """Row of the latent nearest to that mean direction."""


@torch.no_grad()
def cluster_geometry(
    directions: Float[Tensor, "n d"], labels: Int[np.ndarray, " n"]
) -> ClusterGeometry:
    """Of each cluster 0, 1, ... in `labels`; rows below 0 are in none.

    `directions` have length 1. Raises `ValueError` for a number without rows.
    """
    if len(labels) != len(directions):
        raise ValueError(f"{len(labels)} labels are given for {len(directions)} directions.")
    rows = np.flatnonzero(labels >= 0)
    sizes = np.bincount(labels[rows])
    if (sizes == 0).any():
        raise ValueError(f"Cluster {int(sizes.argmin())} is empty; number clusters 0, 1, 2, ...")
    members = torch.as_tensor(rows, device=directions.device)
    cluster = torch.as_tensor(labels[rows].astype(np.int64), device=directions.device)
    mean = torch.zeros(len(sizes), directions.shape[1], device=directions.device)
    mean = torch.nn.functional.normalize(mean.index_add_(0, cluster, directions[members]), dim=1)
    cosines = (directions[members] * mean[cluster]).sum(dim=1).cpu().numpy()
    compactness = np.bincount(labels[rows], weights=cosines) / sizes
    # The last of each cluster in ascending order of cosine; by row where cosines are equal.
    order = np.lexsort((-rows, cosines, labels[rows]))
    last = np.cumsum(sizes) - 1
    medoids = rows[order[last]] if len(sizes) else rows
    return ClusterGeometry(compactness.astype(np.float32), medoids.astype(np.int32))
