"""What the weights of an SAE look like, beside what rows drawn at random would."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.saes.transcoder import Transcoder
from torch import Tensor

from core.saes.writes import unit_writes

_QUERIES = 4096
_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Geometry:
    """Figures of the weights alone; each array is of some or all latents."""

    norms: Float[np.ndarray, " d_sae"]
    """Length of what a unit of each latent's activation writes."""
    encoder_cosine: Float[np.ndarray, " alive"] | None
    """Cosine of each latent's encoder column with its decoder row; None where they are not of one
    space (transcoders) or there is no encoder. Latents without either are left out."""
    encoder_null: Float[np.ndarray, " alive"] | None
    """The same with the rows of other latents."""
    neighbour: Float[np.ndarray, " queries"]
    """Cosine of a decoder row with the row nearest to it, of up to 4,096 latents."""
    neighbour_gaussian: Float[np.ndarray, " queries"]
    """The same for as many random rows of the same covariance."""
    neighbour_uniform: Float[np.ndarray, " queries"]
    """The same for random directions without any preference."""


@torch.no_grad()
def decoder_geometry(sae: SAE, *, seed: int = 0) -> Geometry:
    """Lengths of decoder rows, encoder against decoder, and nearest neighbours with their nulls.

    Rows of length 0, and of latents that are not finite, have no direction and are left out.
    Nothing of the size of the SAE squared is held at a time.

    Raises:
        ValueError: an SAE with fewer than two directions.
    """
    rows = unit_writes(sae, range(sae.cfg.d_sae)).float()
    norms = rows.norm(dim=1)
    alive = torch.isfinite(norms) & (norms > 0)
    if int(alive.sum()) < 2:
        raise ValueError("The SAE has fewer than two decoder rows with a direction.")
    unit = rows[alive] / norms[alive, None]
    generator = torch.Generator().manual_seed(seed)
    n = len(unit)
    queries = torch.randperm(n, generator=generator)[:_QUERIES].sort().values.to(unit.device)
    mean, factor = unit.mean(0), _root(unit)
    # Drawn on the CPU: the same numbers on every device.
    noise = torch.randn(n, unit.shape[1], generator=generator).to(unit.device)
    uniform = noise / noise.norm(dim=1, keepdim=True)
    gaussian = mean + noise @ factor
    gaussian = gaussian / gaussian.norm(dim=1, keepdim=True).clamp_min(1e-12)
    encoder = _encoder_cosines(sae, rows, norms, alive, generator)
    return Geometry(
        norms=norms.cpu().numpy(),
        encoder_cosine=None if encoder is None else encoder[0],
        encoder_null=None if encoder is None else encoder[1],
        neighbour=_nearest(unit, queries),
        neighbour_gaussian=_nearest(gaussian, queries),
        neighbour_uniform=_nearest(uniform, queries),
    )


def _encoder_cosines(
    sae: SAE, rows: Tensor, norms: Tensor, alive: Tensor, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    columns = getattr(sae, "W_enc", None)
    if isinstance(sae, Transcoder) or not isinstance(columns, Tensor):
        return None
    if columns.shape != (rows.shape[1], rows.shape[0]):
        return None
    lengths = columns.float().norm(dim=0)
    both = (alive & torch.isfinite(lengths) & (lengths > 0)).nonzero()[:, 0]
    if len(both) < 2:
        return None
    reading = columns.T[both].float() / lengths[both, None]
    writing = rows[both] / norms[both, None]
    # A shift by a random amount: no latent is paired with itself.
    shift = int(torch.randint(1, len(both), (1,), generator=generator))
    others = writing.roll(shift, 0)
    return (
        (reading * writing).sum(1).cpu().numpy(),
        (reading * others).sum(1).cpu().numpy(),
    )


def _root(unit: Tensor) -> Tensor:
    """A matrix whose product with white noise has the covariance of the rows."""
    centred = (unit - unit.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(unit))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root.to(unit)


def _nearest(unit: Tensor, queries: Tensor) -> np.ndarray:
    """Highest cosine of each query row with a row other than itself."""
    step = max(1, _BYTES // (4 * len(unit)))
    found = []
    for some in queries.split(step):
        cosines = unit[some] @ unit.T
        cosines[torch.arange(len(some), device=unit.device), some] = -1
        found.append(cosines.amax(1))
    return torch.cat(found).cpu().numpy()
