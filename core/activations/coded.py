"""What an SAE makes of some positions: its firings one by one, and what it writes for them.

Figures of reconstruction need both. A plain TopK SAE writes the sum of a few rows, so neither its
dense activations nor a matrix product of the decoder's size is needed; the result is that of
`core.saes.encode` and `decode`, which all others go through.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sae_lens import SAE, TemporalSAE
from torch import Tensor

from core.activations.encoding import is_plain_topk, topk_firings
from core.saes import decode, encode


@dataclass(frozen=True, eq=False)
class Coded:
    """Some positions through an SAE; firings are ordered by position."""

    position: Int[Tensor, " n"]
    """Position of each firing, counted from the first that was given."""
    latent: Int[Tensor, " n"]
    """Latent of each firing."""
    value: Float[Tensor, " n"]
    """Its activation."""
    written: Float[Tensor, "positions d_out"]
    """What the SAE writes at each position, heads flattened."""


@torch.no_grad()
def coded(sae: SAE, activations: Float[Tensor, "positions ..."]) -> Coded:
    """The SAE on `[positions, d_in]`, or `[positions, n_heads, d_head]` at hook_z.

    Raises ValueError for activations that are not finite, and for an SAE that reads sequences.
    """
    if isinstance(sae, TemporalSAE):
        raise ValueError("Temporal SAEs read whole sequences; choose an SAE that reads positions.")
    if not torch.isfinite(activations).all():
        raise ValueError(
            "The model's activations hold NaN or infinity; load the model in float32 instead."
        )
    if is_plain_topk(sae):
        position, latent, value = topk_firings(sae, activations)
        return Coded(
            position, latent, value, _sums_of_rows(sae, position, latent, value, activations)
        )
    dense = encode(sae, activations)
    position, latent = (dense != 0).nonzero(as_tuple=True)
    written = decode(sae, dense, like=activations)
    skip = getattr(sae, "W_skip", None)
    if isinstance(skip, Tensor):
        written = written + activations.flatten(1).to(skip) @ skip.T
    return Coded(position, latent, dense[position, latent], written.flatten(1))


def sum_rows(
    rows: Float[Tensor, "d_sae d_out"],
    position: Int[Tensor, " n"],
    latent: Int[Tensor, " n"],
    value: Float[Tensor, " n"],
    n_positions: int,
) -> Float[Tensor, "positions d_out"]:
    """For each position the sum of value · row over its firings, which are ordered by position."""
    counts = torch.bincount(position, minlength=n_positions)
    offsets = counts.cumsum(0) - counts
    return F.embedding_bag(
        latent, rows, offsets, mode="sum", per_sample_weights=value.to(rows.dtype)
    )


def _sums_of_rows(
    sae: SAE, position: Tensor, latent: Tensor, value: Tensor, activations: Tensor
) -> Tensor:
    weight = value
    if sae.cfg.rescale_acts_by_decoder_norm:
        norms = sae.W_dec.norm(dim=-1).clamp_min(torch.finfo(sae.W_dec.dtype).tiny)
        weight = value / norms[latent]
    return sum_rows(sae.W_dec, position, latent, weight, len(activations)) + sae.b_dec
