"""Decoder rows of a made-up SAE whose groups are known: families of groups of latents."""

import numpy as np
import torch

GROUP_LATENTS, FAMILY_GROUPS = 64, 64
"""Latents of a group, and groups of a family, on average."""
_CHUNK = 65_536


def planted_million(
    n: int = 1_048_576, d: int = 256, *, seed: int = 0
) -> tuple[torch.Tensor, np.ndarray]:
    """`n` rows of length 1, and the group of each.

    A family is a random direction, a group lies around its family's, and a latent around its
    group's: two latents of a group have a cosine of about 0.6, of a family about 0.4.
    """
    generator = torch.Generator().manual_seed(seed)
    n_groups = max(2, n // GROUP_LATENTS)
    families = _unit(torch.randn(max(2, n_groups // FAMILY_GROUPS), d, generator=generator))
    family = torch.randint(0, len(families), (n_groups,), generator=generator)
    groups = _around(families[family], generator)
    group = torch.randint(0, n_groups, (n,), generator=generator)
    rows = torch.empty(n, d)
    for start in range(0, n, _CHUNK):
        rows[start : start + _CHUNK] = _around(groups[group[start : start + _CHUNK]], generator)
    return rows, group.numpy()


def _around(parents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _unit(parents + 0.8 * _unit(torch.randn(parents.shape, generator=generator)))


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)
