"""Firings of an SAE as (position, latent, value), some positions at a time.

A TopK SAE's dense activations are nearly all zero and cost more to write and search than to find:
for that class the k largest pre-activations are looked up among the entries above a lower bound of
the k-th largest. The result is that of `core.saes.encode`, tested entry by entry.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from sae_lens.saes.topk_sae import TopKSAE
from torch import Tensor

from core.saes import encode

_BYTES = 32 << 20
_MIN_POSITIONS = 64
_GROUP = 64

Piece = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""(position, latent, value) of firings, int32, int32, float32, ordered by position."""


@torch.no_grad()
def firings_of(
    sae: SAE,
    activations: Float[Tensor, "n ..."],
    *,
    check: Callable[[], None] | None = None,
    max_bytes: int = _BYTES,
) -> Iterator[Piece]:
    """Firings at each of `n` positions (`[n, d_in]`, or `[n, n_heads, d_head]` at hook_z).

    At most `max_bytes` of dense activations exist at a time (64 positions at least). `check` is
    called between pieces and may raise. Raises ValueError when the activations are not finite.
    """
    if not torch.isfinite(activations).all():
        raise ValueError(
            "The model's activations hold NaN or infinity; load the model in float32 instead."
        )
    step = max(_MIN_POSITIONS, max_bytes // (4 * sae.cfg.d_sae))
    find = topk_firings if is_plain_topk(sae) else _dense_firings
    for start in range(0, len(activations), step):
        if check is not None:
            check()
        position, latent, value = find(sae, activations[start : start + step])
        yield (
            (position + start).to(torch.int32).cpu().numpy(),
            latent.to(torch.int32).cpu().numpy(),
            value.float().cpu().numpy(),
        )


def _dense_firings(sae: SAE, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dense = encode(sae, activations)
    position, latent = (dense > 0).nonzero(as_tuple=True)
    return position, latent, dense[position, latent]


def is_plain_topk(sae: SAE) -> bool:
    """Whether `topk_firings` finds what the SAE's own `encode` does."""
    return type(sae) is TopKSAE and sae.cfg.normalize_activations == "none"


def topk_firings(sae: SAE, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(position, latent, value) of the firings of a plain TopK SAE, ordered by position."""
    flat = activations.reshape(len(activations), -1).to(sae.W_enc)
    if sae.cfg.apply_b_dec_to_input:
        flat = flat - sae.b_dec
    scores = torch.addmm(sae.b_enc, flat, sae.W_enc)
    if sae.cfg.rescale_acts_by_decoder_norm:
        scores *= sae.W_dec.norm(dim=-1)
    k = sae.cfg.k
    groups = scores.shape[1] // _GROUP
    if groups < 2 * k:
        return _sorted_topk(scores, k)
    # Each of the k best groups holds an entry as large as the k-th best group maximum.
    maxima = scores[:, : groups * _GROUP].unflatten(1, (groups, _GROUP)).amax(-1)
    bound = maxima.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True).clamp_min(0)
    position, latent = (scores >= bound).nonzero(as_tuple=True)
    value = scores[position, latent]
    # Few more than k entries a position are left: rank them within their position.
    counts = torch.bincount(position, minlength=len(scores))
    width = int(counts.max())
    starts = counts.cumsum(0) - counts
    slot = torch.arange(len(position), device=position.device) - starts[position]
    table = scores.new_full((len(scores), width), -torch.inf)
    table[position, slot] = value
    if width <= k:
        chosen = value > 0
        return position[chosen], latent[chosen], value[chosen]
    best = table.topk(k, dim=1, sorted=False).indices
    keep = torch.zeros_like(table, dtype=torch.bool).scatter_(1, best, True)
    chosen = keep[position, slot] & (value > 0)
    return position[chosen], latent[chosen], value[chosen]


def _sorted_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    values, latents = scores.topk(k, dim=1, sorted=False)
    position = torch.arange(len(scores), device=scores.device)[:, None].expand_as(values)
    fires = values > 0
    return position[fires], latents[fires], values[fires]
