"""Activations of the base model at many sites, from one pass over a fixed sample of the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.models import Model, cache_sites
from make_demo.recipe import BOS_ID


def sample_windows(
    tokens: np.ndarray, *, n_tokens: int, context: int, seed: int
) -> Int[Tensor, "n context"]:
    """Random windows of the corpus with BOS in front, `n_tokens` tokens in all (BOS included)."""
    n = max(1, n_tokens // context)
    starts = np.random.default_rng(seed).integers(0, len(tokens) - context, size=n)
    windows = tokens[starts[:, None] + np.arange(context)].astype(np.int64)
    windows[:, 0] = BOS_ID
    return torch.from_numpy(windows)


@dataclass
class SiteActivations:
    """What one SAE is trained on."""

    values: Float[Tensor, "n d_in"]
    """Activations in bf16 at all positions but BOS, whose norm is far above the others'."""
    mean: Float[Tensor, " d_in"]
    """Their mean."""
    scale: float
    """Factor that brings the mean norm of the centred activations to sqrt(d_in)."""


def gather(
    model: Model, windows: Int[Tensor, "n context"], hook_names: Sequence[str], *, batch: int = 32
) -> dict[str, SiteActivations]:
    """Activations at `hook_names`, on the model's device; heads of `hook_z` are concatenated."""
    collected: dict[str, list[Tensor]] = {name: [] for name in hook_names}
    for rows in windows.split(batch):
        for name, values in cache_sites(model, rows, list(hook_names)).items():
            collected[name].append(values[:, 1:].flatten(2).flatten(0, 1).bfloat16())
    return {name: _standardise(torch.cat(parts)) for name, parts in collected.items()}


def _standardise(values: Float[Tensor, "n d_in"]) -> SiteActivations:
    sample = values[:200_000].float()
    mean = sample.mean(0)
    norm = (sample - mean).norm(dim=1).mean()
    return SiteActivations(values, mean, float(values.shape[1] ** 0.5 / norm))
