"""SAEs whose decoder directions have a known structure: narrow latents that split in wider SAEs."""

from collections.abc import Callable

import numpy as np
import torch
from sae_lens import SAE

from core.splitting.fits import run_here
from core.splitting.rows import LabelledSae
from tests.builders import make_sae

HOOK = "blocks.1.hook_resid_pre"


def directions(n: int, d: int, *, seed: int = 0) -> torch.Tensor:
    """Random rows of length 1."""
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def sae_of(decoder: torch.Tensor, *, hook_name: str = HOOK) -> SAE:
    """A standard SAE with this decoder."""
    d_sae, d_in = decoder.shape
    sae = make_sae("standard", d_in=d_in, d_sae=d_sae, hook_name=hook_name)
    sae.W_dec.data = decoder.clone()
    return sae


def planted(
    *, groups: int = 12, children: int = 24, d: int = 32, noise: float = 0.25
) -> tuple[list[LabelledSae], np.ndarray]:
    """A narrow SAE of one latent a group and a wide one of its children; the groups of all rows."""
    parents = directions(groups, d, seed=1)
    wide = parents.repeat_interleave(children, dim=0)
    wide = wide + noise * directions(len(wide), d, seed=2)
    saes = [LabelledSae("narrow", sae_of(parents)), LabelledSae("wide", sae_of(wide))]
    truth = np.concatenate([np.arange(groups), np.repeat(np.arange(groups), children)])
    return saes, truth


class Counted:
    """A `Fit` that notes which functions it was asked to run."""

    def __init__(self, fit: Callable = run_here) -> None:
        self.fit = fit
        self.asked: list[str] = []

    def __call__(self, function, *args, progress=None, **kwargs):
        self.asked.append(function.partition(":")[2])
        return self.fit(function, *args, progress=progress, **kwargs)
