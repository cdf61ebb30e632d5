"""What single latents read and write: one row of numbers for each (position, latent) pair.

Only the columns of the encoder and the rows of the decoder that belong to active latents are
touched, never `[positions, d_sae]` derivatives. Which latents are active is piecewise constant,
so the derivative of an active latent is that of its pre-activation.
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

from core.saes import decode, encode

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

_LINEAR_DECODERS: set[Callable[..., Tensor]] = {
    StandardSAE.decode,
    JumpReLUSAE.decode,
    TopKSAE.decode,
    GatedSAE.decode,
    Transcoder.decode,
}


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
    sae_in, _ = _normalised(sae, flat)
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


@torch.no_grad()
def decoder_rows(
    sae: SAE, latents: Int[Tensor, " n"], like: Float[Tensor, "n ..."]
) -> Float[Tensor, "n d_out"]:
    """What a unit of latent `latents[i]` adds to the SAE's output where it encoded `like[i]`.

    The decoder direction, times whatever the SAE multiplies its output by: the scale of
    `like[i]` for SAEs that normalise each input, which is held fixed.
    """
    if type(sae).decode not in _LINEAR_DECODERS:
        return _rows_by_decoding(sae, latents, like)
    rows = sae.W_dec[latents]
    if isinstance(sae, TopKSAE) and sae.cfg.rescale_acts_by_decoder_norm:
        rows = rows / rows.norm(dim=-1, keepdim=True)
    if isinstance(sae, Transcoder):
        return rows
    scale = _normalised(sae, like.flatten(1).to(rows))[1]
    return rows if scale is None else rows * scale


def _rows_by_decoding(sae: SAE, latents: Tensor, like: Tensor) -> Float[Tensor, "n d_out"]:
    """Decoders are affine: the difference that a one makes is the row."""
    rows = []
    for start in range(0, len(latents), _CHUNK):
        part = slice(start, start + _CHUNK)
        zeros = torch.zeros(
            len(latents[part]), sae.cfg.d_sae, device=sae.W_dec.device, dtype=sae.W_dec.dtype
        )
        ones = zeros.scatter(1, latents[part, None], 1.0)
        with_one = decode(sae, ones, like=like[part])
        rows.append((with_one - decode(sae, zeros, like=like[part])).flatten(1))
    return torch.cat(rows) if rows else sae.W_dec[latents]


def _normalised(sae: SAE, flat: Tensor) -> tuple[Tensor, Tensor | None]:
    """`flat` as the encoder gets it, and what its output is multiplied by in return.

    The normalisations that sae_lens measures on each input; it notes the measures on the SAE
    itself, where other threads would find them, hence the formulas here.
    """
    if sae.cfg.normalize_activations == "layer_norm":
        centred = flat - flat.mean(dim=-1, keepdim=True)
        spread = centred.std(dim=-1, keepdim=True)
        return centred / (spread + 1e-5), spread
    if sae.cfg.normalize_activations == "constant_norm_rescale":
        coefficient = sae.cfg.d_in**0.5 / flat.norm(dim=-1, keepdim=True)
        return flat * coefficient, 1 / coefficient
    return flat, None
