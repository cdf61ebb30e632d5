"""What an SAE does to a text, summed row by row, so that figures come with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE, TemporalSAE
from torch import Tensor

from core.saes import encode, reads_heads, reconstruct

_DRAWS = 400
_BYTES = 64 << 20

Undo = Callable[[Tensor, Tensor], Tensor]
"""(what an SAE wrote `[n, d_out]`, which of the positions that count `[n]`) in other units."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval by bootstrap over rows."""

    value: float
    """On all rows."""
    low: float
    """Lower end; the value itself where there are fewer than two rows."""
    high: float
    """Upper end."""


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums over the positions that count of each row (float64)."""

    n: Float[np.ndarray, " rows"]
    """Positions."""
    active: Float[np.ndarray, " rows"]
    """Active latents."""
    error: Float[np.ndarray, " rows"]
    """Squared distance between what was to be written and what the SAE writes."""
    square: Float[np.ndarray, " rows"]
    """Squared norm of what was to be written."""
    total: Float[np.ndarray, "rows d_out"]
    """What was to be written."""

    def joined(self, other: "RowSums") -> "RowSums":
        """These rows and those."""
        names = ("n", "active", "error", "square", "total")
        return RowSums(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names)
        )

    def l0(self, weights: Float[np.ndarray, "draws rows"] | None = None) -> np.ndarray:
        """Mean number of active latents a position, `[draws]`."""
        w = self._weights(weights)
        return (w @ self.active) / (w @ self.n)

    def fvu(self, weights: Float[np.ndarray, "draws rows"] | None = None) -> np.ndarray:
        """Error by variance about the mean of the positions, `[draws]`; NaN without variance."""
        w = self._weights(weights)
        n, total, square = w @ self.n, w @ self.total, w @ self.square
        variance = square - (total**2).sum(1) / n
        # What is left of equal numbers is rounding.
        variance = np.where(variance > 1e-9 * np.maximum(square, 1e-30), variance, np.nan)
        return (w @ self.error) / variance

    def _weights(self, weights: np.ndarray | None) -> np.ndarray:
        return np.ones((1, len(self.n))) if weights is None else weights


@torch.no_grad()
def row_sums(
    sae: SAE,
    read: Float[Tensor, "n ..."],
    wanted: Float[Tensor, "n ..."],
    row: Int[Tensor, " n"],
    rows: int,
    *,
    undo: Undo | None = None,
    fired: Bool[Tensor, " d_sae"] | None = None,
) -> RowSums:
    """Sums of each of `rows` rows over positions, of which `row` says where they are from.

    The SAE reads `read` and is to write `wanted`. `undo` turns what it writes into the units of
    `wanted`; `fired` is set where a latent is active. Heads are flattened for an SAE that does not
    read heads. At most about 64 MB of latents exist at a time. Raises ValueError for activations
    that are not finite.
    """
    device = sae.W_dec.device
    x, y = read, wanted.flatten(1)
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError(
            "The model's activations hold NaN or infinity; load the model in float32 instead."
        )
    if isinstance(sae, TemporalSAE):
        # It reads a sequence at a time.
        groups = [(row == row_id).nonzero(as_tuple=True)[0] for row_id in row.unique()]
    else:
        step = max(64, _BYTES // (4 * sae.cfg.d_sae))
        groups = list(torch.arange(len(row)).split(step))
    n, active, error, square = (np.zeros(rows) for _ in range(4))
    total = np.zeros((rows, y.shape[1]))
    for at in groups:
        given, target = x[at.to(x.device)].to(device), y[at.to(y.device)].to(device)
        if not reads_heads(sae):
            given = given.flatten(1)
        if isinstance(sae, TemporalSAE):
            given = given[None]
        latents = encode(sae, given).flatten(0, -2) != 0
        written = reconstruct(sae, given).reshape(target.shape)
        written = written if undo is None else undo(written, at)
        if fired is not None:
            fired |= latents.any(0).to(fired.device)
        place = row[at].numpy()
        np.add.at(n, place, 1.0)
        np.add.at(active, place, _numpy(latents.sum(-1)))
        np.add.at(error, place, _numpy((written - target).double().pow(2).sum(-1)))
        np.add.at(square, place, _numpy(target.double().pow(2).sum(-1)))
        np.add.at(total, place, _numpy(target))
    return RowSums(n, active, error, square, total)


def draws(rows: int, seed: int = 0) -> Float[np.ndarray, "draws rows"]:
    """How often each row is taken in each of 400 samples with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=_DRAWS).astype(np.float64)


def figure(value: float, samples: Float[np.ndarray, " draws"], *, rows: int) -> Figure:
    """A value with the interval that its samples span."""
    finite = samples[np.isfinite(samples)]
    if rows < 2 or len(finite) == 0:
        return Figure(value, value, value)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Figure(value, float(low), float(high))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()
