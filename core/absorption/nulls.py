"""What chance gives: sets of tokens without a meaning, and an SAE of random directions."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from scipy.sparse import csr_array

from core.absorption.sites import Sites


def shuffled(token: np.ndarray, label: np.ndarray, seed: int) -> Bool[np.ndarray, " n"]:
    """Labels of as many positions, by tokens that are drawn: a set without a meaning."""
    # Not the generator that draws which tokens are held out: they would be the same tokens.
    generator = np.random.default_rng([seed, 1])
    ids, place = np.unique(token, return_inverse=True)
    order = generator.permutation(len(ids))
    counts = np.bincount(place, minlength=len(ids))[order].cumsum()
    last = max(1, int(np.searchsorted(counts, label.sum(), side="left")) + 1)
    return np.isin(token, ids[order[:last]])


def random_sae(sites: Sites, seed: int) -> Sites:
    """The same positions in an SAE of random directions, the L0 largest projections active."""
    generator = torch.Generator().manual_seed(seed)
    d_sae, d = sites.rows.shape
    rows = torch.randn(d_sae, d, generator=generator)
    rows = rows / rows.norm(dim=1, keepdim=True)
    k = min(d_sae, max(1, round(sites.l0)))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for some in torch.from_numpy(sites.x).split(max(1, (32 << 20) // (4 * d_sae))):
        best = (some @ rows.T).topk(k, dim=1)
        parts.append((best.values.clamp_min(0).numpy(), best.indices.numpy()))
    value, latent = (np.concatenate(it) for it in zip(*parts, strict=True))
    indptr = np.arange(len(value) + 1) * k
    acts = csr_array((value.ravel(), latent.ravel(), indptr), shape=sites.acts.shape)
    acts.eliminate_zeros()
    acts.sort_indices()
    return replace(sites, acts=acts, rows=rows.numpy(), others=None)
