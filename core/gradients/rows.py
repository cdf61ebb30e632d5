"""What single latents read: one row of numbers for each (position, latent) pair.

Only the columns of the encoder that belong to active latents are touched, never
`[positions, d_sae]` derivatives. Which latents are active is piecewise constant, so the derivative
of an active latent is that of its pre-activation. What latents write is in `core.saes.writes`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from sae_lens.saes.gated_sae import GatedSAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAE
from sae_lens.saes.standard_sae import StandardSAE
from sae_lens.saes.temporal_sae import TemporalSAE
from sae_lens.saes.topk_sae import TopKSAE
from sae_lens.saes.transcoder import JumpReLUTranscoder, Transcoder
from torch import Tensor

from core.saes import encode
from core.saes.writes import normalised

_CHUNK = 64

_LINEAR_THEN_THRESHOLD: set[Callable[..., Tensor]] = {
    StandardSAE.encode,
    JumpReLUSAE.encode,
    TopKSAE.encode,
    GatedSAE.encode,
    Transcoder.encode,
    JumpReLUTranscoder.encode,
}
"""Encoders whose formula is repeated here, restricted to some latents."""


def active_latent_values(
    sae: SAE, activations: Float[Tensor, "n ..."], latents: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The value of latent `latents[i]`, which must be active, on `activations[i]`.

    Equal to `encode(sae, activations)` at these latents, and differentiable (also through what
    the SAE normalises by), at the price of n columns of the encoder. SAEs of an unknown class
    are encoded whole. Values at latents that are not active are unspecified.

    Raises:
        ValueError: an SAE whose latents depend on other positions.
    """
    if isinstance(sae, TemporalSAE):
        raise ValueError(
            "A temporal SAE reads other positions as well, so its latents have no row of their "
            "own; choose an SAE that encodes each position by itself."
        )
    if type(sae).encode not in _LINEAR_THEN_THRESHOLD:
        return encode(sae, activations).gather(-1, latents[:, None])[:, 0]
    flat = activations.flatten(1).to(device=sae.W_enc.device, dtype=sae.W_enc.dtype)
    sae_in, _ = normalised(sae, flat)
    if sae.cfg.apply_b_dec_to_input and not isinstance(sae, Transcoder):
        sae_in = sae_in - sae.b_dec
    columns = sae.W_enc.T[latents]
    if isinstance(sae, GatedSAE):
        columns, bias = columns * sae.r_mag[latents, None].exp(), sae.b_mag[latents]
    else:
        bias = sae.b_enc[latents]
    values = (sae_in * columns).sum(-1) + bias
    if isinstance(sae, TopKSAE) and sae.cfg.rescale_acts_by_decoder_norm:
        values = values * sae.W_dec[latents].norm(dim=-1)
    return values


def encoder_rows(
    sae: SAE, activations: Float[Tensor, "n ..."], latents: Int[Tensor, " n"]
) -> Float[Tensor, "n d_in"]:
    """Derivative of each active latent with respect to the activations it reads."""
    known = type(sae).encode in _LINEAR_THEN_THRESHOLD
    chunk = max(1, len(latents)) if known else _CHUNK
    rows = [activations.new_zeros(0, sae.cfg.d_in, dtype=sae.W_enc.dtype)]
    for start in range(0, len(latents), chunk):
        part = slice(start, start + chunk)
        with torch.enable_grad():
            leaf = activations[part].detach().clone().requires_grad_(True)
            total = active_latent_values(sae, leaf, latents[part]).sum()
        rows.append(torch.autograd.grad(total, leaf)[0].flatten(1).to(sae.W_enc.dtype))
    return torch.cat(rows)
