"""Which source tokens and heads feed a latent of an attention SAE? Direct feature attribution.

An attention layer's heads read values at earlier positions and add them up, weighted by their
attention pattern. What an SAE's encoder takes from that is a sum, too, so a latent's pre-activation
comes apart exactly into one term per head and source position (Kissane et al., "Interpreting
attention layer outputs with sparse autoencoders", 2024, section 3):

    pre = Σ over heads h and sources s of pattern[h, t, s] · (value[s, h] · W_enc[h, latent]) + bias

Patterns and values are taken as they are: what made a head look there is not part of it. So is the
scale of a norm after the layer (Gemma 2 and 3), for SAEs that read behind it. Where the sum does
not come out, as with attention sinks, that is said instead.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model, cache_sites, layer_of_hook
from core.models.post_norms import scale_held
from core.saes import encode, sae_hook_name

_EXACT = 1e-3
"""Largest deviation of the sum, relative to the sizes of its terms."""
_LINEAR = ("standard", "topk", "batchtopk", "jumprelu", "gated")


@dataclass(frozen=True, eq=False)
class SourceAttribution:
    """One latent at one destination; `terms.sum() + bias` is its pre-activation there."""

    terms: Float[Tensor, "n_heads n_sources"]
    """What each head brings from each position up to the destination (float64, CPU)."""
    pattern: Float[Tensor, "n_heads n_sources"]
    """Share of its attention that each head pays to each of these positions (float64, CPU)."""
    bias: float
    """What is there without any attention: the encoder's and the layer's biases."""
    pre_activation: float
    """What the SAE computes there before its activation function (of a gated SAE, in the path of
    the magnitudes; before any rescaling by decoder norms)."""
    activation: float
    """The latent's activation there."""


def why_no_sources(hook_name: str, *, architecture: str, normalize: str) -> str | None:
    """Why a latent of such an SAE does not come apart by sources, as a sentence; None if it does.

    `architecture` and `normalize` are what its config calls `architecture` and
    `normalize_activations`.
    """
    if not hook_name.endswith(("attn.hook_z", "hook_attn_out")) or layer_of_hook(hook_name) is None:
        return (
            f"This SAE reads {hook_name}, where the sources of a latent do not add up: source "
            "tokens are told apart only for SAEs of the attention heads (hook_z) or of the output "
            "of an attention layer (hook_attn_out)."
        )
    if architecture not in _LINEAR:
        return (
            f"The encoder of this SAE ({architecture}) is not one linear map, so what feeds a "
            "latent is not a sum over source tokens."
        )
    if normalize not in ("none", "expected_average_only_in"):
        return (
            f"This SAE rescales each input by itself ({normalize}), so what feeds a latent is not "
            "a sum over source tokens."
        )
    return None


@torch.no_grad()
def attribute_to_sources(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "1 pos"],
    latent: int,
    destination: int,
) -> SourceAttribution:
    """Take a latent's pre-activation at position `destination` apart by head and source position.

    Raises:
        ValueError: an SAE of another site or kind (`why_no_sources`), a latent or a position that
            does not exist, or several prompts.
    """
    site = sae_hook_name(sae)
    reason = why_no_sources(
        site, architecture=sae.cfg.architecture(), normalize=sae.cfg.normalize_activations
    )
    if reason is not None:
        raise ValueError(reason)
    if tokens.dim() != 2 or len(tokens) != 1:
        raise ValueError(f"tokens are {list(tokens.shape)}; give one prompt as [1, pos].")
    if not 0 <= latent < sae.cfg.d_sae:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {sae.cfg.d_sae}, so choose 0 to "
            f"{sae.cfg.d_sae - 1}."
        )
    if not 0 <= destination < tokens.shape[1]:
        raise ValueError(
            f"There is no position {destination} in a prompt of {tokens.shape[1]} tokens."
        )
    layer = layer_of_hook(site) or 0
    attention = f"blocks.{layer}.attn"
    names = [f"{attention}.hook_pattern", f"{attention}.hook_v", site]
    cache = cache_sites(model, tokens[:, : destination + 1], names)
    pattern = cache[names[0]][0, :, destination, : destination + 1].double()
    values = cache[names[1]][0].double()
    # With grouped queries, several heads share their values.
    values = values.repeat_interleave(pattern.shape[0] // values.shape[1], dim=1)
    read, bias = _encoder(sae, latent)
    if site.endswith("hook_attn_out"):
        mixed = torch.einsum("hs,shd->hd", pattern, values)
        read_heads, constant = _read_before_output(model, layer, mixed, read.to(mixed))
        bias += constant
    else:
        read_heads = read.view(pattern.shape[0], -1)
    terms = pattern * torch.einsum("shd,hd->hs", values, read_heads.to(values))
    there = cache[site][:, destination]
    flat = there.flatten(1).double().to(read.device)
    pre_activation = float(flat[0] @ read + _encoder(sae, latent)[1])
    size = float(terms.abs().sum()) + abs(bias) + abs(pre_activation)
    if abs(float(terms.sum()) + bias - pre_activation) > _EXACT * size:
        raise ValueError(
            f"What feeds a latent at {site} of this model is not a plain sum over source tokens: "
            f"the terms add up to {float(terms.sum()) + bias:.4g} and the pre-activation is "
            f"{pre_activation:.4g}. Choose an SAE of hook_z, or another model."
        )
    return SourceAttribution(
        terms=terms.cpu(),
        pattern=pattern.cpu(),
        bias=bias,
        pre_activation=pre_activation,
        activation=float(encode(sae, there)[0, latent]),
    )


def _read_before_output(
    model: Model, layer: int, mixed: Float[Tensor, "n_heads d_head"], read: Float[Tensor, " d_in"]
) -> tuple[Float[Tensor, "n_heads d_head"], float]:
    """What a direction that is read at hook_attn_out reads of each head, and of no head.

    `mixed` is what the heads give there. Where a norm follows the layer, its scale is held at the
    value that it has for them, as patterns are held.
    """
    attention = model.blocks[layer].attn
    weights = attention.W_O.to(mixed)
    constant = getattr(attention, "b_O", None)
    offset = torch.zeros(weights.shape[-1]).to(mixed) if constant is None else constant.to(mixed)
    given = torch.einsum("hd,hdm->m", mixed, weights) + offset
    held = scale_held(model, layer, "attn", given)
    scale = float(getattr(model.blocks[layer], "residual_contribution_scale", 1.0))
    read = read * scale if held is None else read * held * scale
    return weights @ read, float(offset @ read)


def _encoder(sae: SAE, latent: int) -> tuple[Float[Tensor, " d_in"], float]:
    """The direction that the latent reads, and its pre-activation for an input of zeros."""
    read = sae.W_enc[:, latent].double()
    if sae.cfg.architecture() == "gated":
        read = read * sae.r_mag[latent].double().exp()
        offset = sae.b_mag[latent].double()
    else:
        offset = sae.b_enc[latent].double()
    if sae.cfg.apply_b_dec_to_input:
        offset = offset - sae.b_dec.double() @ read
    return read, float(offset)
