"""The index again, the slow way: dense activations, and a loop over latents."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from sae_lens import SAE

from core.activations.config import CELLS, IndexConfig
from core.activations.ranked import random_rank
from core.corpus import TokenSet
from core.models import Model, cache_sites
from core.saes import encode, sae_hook_name

Entry = tuple[float, int]
"""(value, place)."""


def dense_activations(
    model: Model, sae: SAE, token_set: TokenSet, *, batch_rows: int | None = None
) -> np.ndarray:
    """float32 [n_rows, context, d_sae]; 0 at positions that do not count. Run in one batch."""
    tokens = torch.from_numpy(token_set.tokens.astype(np.int64))
    batches = tokens.split(batch_rows or len(tokens))
    sites = [cache_sites(model, batch, [sae_hook_name(sae)]) for batch in batches]
    site = torch.cat([cache[sae_hook_name(sae)] for cache in sites])
    with torch.no_grad():
        dense = encode(sae, site).float().numpy()
    return np.where(token_set.mask[:, :, None] & (dense > 0), dense, 0)


@dataclass
class DenseLatent:
    """What the index should say of one latent."""

    count: int
    total: float
    peak: float
    top: list[Entry]
    bands: list[list[Entry]]
    band_counts: list[int]
    band_edges: list[float]


def dense_latent(dense: np.ndarray, latent: int, config: IndexConfig) -> DenseLatent:
    """From `dense_activations`, by sorting Python lists."""
    context = dense.shape[1]
    flat = dense[:, :, latent].reshape(-1)
    firings = [(float(flat[place]), int(place)) for place in np.flatnonzero(flat)]
    by_rank = sorted(firings, key=lambda entry: (-entry[0], entry[1]))
    top = by_rank
    if config.one_per_row:
        seen: set[int] = set()
        top = []
        for value, place in by_rank:
            if place // context not in seen:
                seen.add(place // context)
                top.append((value, place))
    peak = by_rank[0][0] if by_rank else 0.0
    edges = _edges(peak, config.n_quantiles)
    bands: list[list[Entry]] = []
    counts = []
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = [e for e in firings if low <= e[0] and (e[0] <= high if last else e[0] < high)]
        counts.append(len(inside))
        inside.sort(key=lambda entry: _rank(latent, entry[1], config.seed))
        drawn = inside[: config.per_quantile]
        bands.append(sorted(drawn, key=lambda entry: (-entry[0], entry[1])))
    return DenseLatent(
        count=len(firings),
        total=math.fsum(value for value, _ in firings),
        peak=peak,
        top=top[: config.n_top],
        bands=bands,
        band_counts=counts,
        band_edges=edges,
    )


def _rank(latent: int, place: int, seed: int) -> int:
    return int(random_rank(np.array([latent]), np.array([place]), seed)[0])


def _edges(peak: float, n_bands: int) -> list[float]:
    if peak == 0:
        return [0.0] * (n_bands + 1)
    width = 2.0 ** (math.floor(math.log2(peak)) + 1) / CELLS
    # Python rounds halves to even, as NumPy does.
    inner = [round(peak / width * band / n_bands) * width for band in range(n_bands)]
    return [*inner, peak]


def entries_of(values: np.ndarray, places: np.ndarray) -> list[Entry]:
    """Of one list of the index."""
    there = places >= 0
    return list(zip(values[there].tolist(), places[there].tolist(), strict=True))
