"""Which source tokens and heads feed a latent of an attention SAE? Direct feature attribution.

An attention layer's heads read values at earlier positions and add them up, weighted by their
attention pattern. What an SAE's encoder takes from that is a sum, too, so a latent's pre-activation
comes apart exactly into one term per head and source position (Kissane et al., "Interpreting
attention layer outputs with sparse autoencoders", 2024, section 3):

    pre = Σ over heads h and sources s of pattern[h, t, s] · (value[s, h] · W_enc[h, latent]) + bias

Patterns and values are taken as they are: what made a head look there is not part of it. Neither is
what made a norm behind the layer (Gemma 2 and 3) divide by what it does: that scale is held, too,
and behind it the sum is exact again. Where a model does something else between its patterns and
the site, so that the terms do not add up, that is said instead of the terms.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model, cache_sites, layer_of_hook
from core.models.stream import StreamPath, path_to_stream
from core.saes import encode, read_at_site, sae_hook_name
from core.saes.site import rows_at_site

_SURE, _COARSE = 1e-3, 0.05
"""Largest deviation of the sum from the pre-activation, relative to what is summed; the
second in half precision."""
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
    the magnitudes; before it is multiplied by `rescaled_by`)."""
    activation: float
    """The latent's activation there."""
    rescaled_by: float = 1.0
    """What the SAE multiplies the pre-activation by before its activation function: the length of
    the latent's decoder row for a TopK SAE that rescales by it."""
    holds_norm: bool = False
    """Whether a norm lies behind the layer, whose scale at the destination is held."""


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
    read, constant = _encoder(sae, latent)
    read = read.to(values.device)
    there = read_at_site(sae, cache[site][:, destination])
    pre_activation = float(there.flatten().to(read) @ read) + constant
    n_heads, d_head, holds_norm = pattern.shape[0], values.shape[2], False
    if site.endswith("hook_attn_out"):
        heads = f"{attention}.hook_z"
        path = path_to_stream(model, heads, n_heads * d_head)
        mixed = torch.einsum("hs,shd->hd", pattern, values)
        read, more = _before_output(path, mixed, read)
        constant, holds_norm = constant + more, path.norm is not None
    read_heads = rows_at_site(sae, read[None], (n_heads, d_head)).view(n_heads, d_head)
    terms = pattern * torch.einsum("shd,hd->hs", values, read_heads)
    _check_sum(model, site, terms, constant, pre_activation)
    return SourceAttribution(
        terms=terms.cpu(),
        pattern=pattern.cpu(),
        bias=constant,
        pre_activation=pre_activation,
        activation=float(encode(sae, there)[0, latent]),
        rescaled_by=_rescale(sae, latent),
        holds_norm=holds_norm,
    )


def _before_output(
    path: StreamPath, mixed: Float[Tensor, "n_heads d_head"], read: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, " d_heads"], float]:
    """What a direction that is read behind the output weights reads of the heads, and of no head.

    `mixed` is what the heads found at the destination, for which a norm's scale is held.
    """
    weighted = read * path.held(mixed.flatten()[None])[0]
    through = weighted if path.weights is None else path.weights.to(weighted) @ weighted
    constant = 0.0 if path.bias is None else float(path.bias.to(weighted) @ weighted)
    return through, constant


def _check_sum(
    model: Model, site: str, terms: Tensor, constant: float, pre_activation: float
) -> None:
    """Raise ValueError unless the terms add up to what the SAE computes."""
    is_coarse = model.cfg.dtype in (torch.float16, torch.bfloat16)
    size = float(terms.abs().sum()) + abs(constant) + abs(pre_activation)
    total = float(terms.sum()) + constant
    if not abs(total - pre_activation) <= (_COARSE if is_coarse else _SURE) * size:
        raise ValueError(
            f"What the heads of this model find is not all that stands at {site}: over the source "
            f"tokens it adds up to {total:.4g}, where the latent's pre-activation is "
            f"{pre_activation:.4g}. Choose an SAE of another model for this view."
        )


def _rescale(sae: SAE, latent: int) -> float:
    is_rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    return float(sae.W_dec[latent].norm()) if is_rescaled else 1.0


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
