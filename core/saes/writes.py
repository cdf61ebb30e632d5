"""What does a unit of a latent's activation write? One home for lens, gradients, maps and scopes.

A decoder row is not the whole answer: SAEs that rescale activations by decoder norms write rows of
norm 1, and SAEs that normalise each input multiply what they write by that input's scale. On the
way to the residual stream, output weights, a norm after the layer and a multiplier may follow.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from sae_lens.saes.gated_sae import GatedSAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAE
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE
from sae_lens.saes.standard_sae import StandardSAE
from sae_lens.saes.topk_sae import TopKSAE
from sae_lens.saes.transcoder import Transcoder
from torch import Tensor

from core.models.hooks import Model, layer_of_hook
from core.models.post_norms import gain_after, norm_after
from core.saes import decode, sae_hook_name

_LINEAR_DECODERS: set[Callable[..., Tensor]] = {
    StandardSAE.decode,
    JumpReLUSAE.decode,
    TopKSAE.decode,
    GatedSAE.decode,
    MatchingPursuitSAE.decode,
    Transcoder.decode,
}
"""Decoders that are `acts @ W_dec + b_dec`, rescaled at most by decoder norms and the input."""

_CHUNK = 64
_ON_THE_STREAM = (
    *("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"),
    *("hook_embed", "hook_pos_embed", "hook_in", "hook_out"),
)
"""Ends of sites whose activations are the residual stream, or are added to it as they are."""
_READ_ONLY = {
    "mlp.hook_pre": "the hidden layer before its nonlinearity, which what is written passes first",
    "mlp.hook_in": "the input of the MLP, which is read and not added to the stream",
    "hook_mlp_in": "the input of the MLP, which is read and not added to the stream",
    "hook_attn_in": "the input of the attention layer, which is read and not added to the stream",
    "hook_normalized": "the output of a norm, which is read and not added to the stream",
    "ln1.hook_out": "the output of a norm, which is read and not added to the stream",
    "ln2.hook_out": "the output of a norm, which is read and not added to the stream",
}


def site_written(sae: SAE) -> str:
    """The site that the SAE writes: for transcoders, not the one it reads."""
    return getattr(sae.cfg.metadata, "hook_name_out", None) or sae_hook_name(sae)


@torch.no_grad()
def unit_writes(sae: SAE, latents: Int[Tensor, " n"] | Sequence[int]) -> Float[Tensor, "n d_out"]:
    """What one unit of each latent's activation adds to the SAE's output.

    Heads are flattened. Where the SAE normalises each input, it is that of an input whose scale is
    1: times the input's scale, it is what is written there (`writes_at`).

    Raises ValueError for a latent that does not exist.
    """
    numbers = torch.as_tensor(latents, dtype=torch.long, device=sae.W_dec.device)
    d_sae = sae.cfg.d_sae
    wrong = numbers[(numbers < 0) | (numbers >= d_sae)]
    if len(wrong):
        raise ValueError(
            f"There is no latent {int(wrong[0])}; this SAE has {d_sae}, so choose 0 to {d_sae - 1}."
        )
    rows = sae.W_dec[numbers]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        # A row of zeros writes nothing, whatever it is divided by.
        rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return rows


@torch.no_grad()
def writes_at(
    sae: SAE, latents: Int[Tensor, " n"], like: Float[Tensor, "n ..."]
) -> Float[Tensor, "n d_out"]:
    """What a unit of latent `latents[i]` adds to the SAE's output where it encoded `like[i]`.

    `unit_writes`, times whatever the SAE multiplies its output by: the scale of `like[i]` for SAEs
    that normalise each input, which is held fixed. Decoders of an unknown class are asked.
    """
    if type(sae).decode not in _LINEAR_DECODERS:
        return _rows_by_decoding(sae, latents, like)
    rows = unit_writes(sae, latents)
    if isinstance(sae, Transcoder):
        return rows
    scale = normalised(sae, like.flatten(1).to(rows))[1]
    return rows if scale is None else rows * scale


@torch.no_grad()
def residual_directions(
    model: Model, sae: SAE, latents: Sequence[int] | Int[Tensor, " n"]
) -> Float[Tensor, "n d_model"]:
    """What one unit of each latent's activation adds to the residual stream.

    `unit_writes`, taken through the output weights of the attention layer for SAEs of hook_z, and
    through those of the MLP for SAEs of its hidden layer. Where a norm follows the layer (Gemma 2
    and 3) its gain is taken, and its division is left out as that of the final norm is: the
    direction is then right up to a factor of each position and the part along what is there.

    Raises:
        ValueError: a latent that does not exist, or a site that does not write to the stream.
    """
    directions = unit_writes(sae, latents)
    site, layer = site_written(sae), layer_of_hook(site_written(sae))
    for end, reason in _READ_ONLY.items():
        if site.endswith(end):
            raise ValueError(
                f"{site} holds {reason}, so its latents do not map to tokens; choose an SAE of the "
                "residual stream, of an attention or of an MLP output."
            )
    if layer is not None and site.endswith("attn.hook_z"):
        weights = _output_heads(model, sae, layer)
        return _through(model, layer, "attn", directions, weights)
    if layer is not None and site.endswith("mlp.hook_post"):
        return _through(model, layer, "mlp", directions, model.blocks[layer].mlp.W_out)
    if directions.shape[1] != model.cfg.d_model or not site.endswith(_ON_THE_STREAM):
        raise ValueError(
            f"{site} holds {directions.shape[1]} numbers that are not known to be added to the "
            f"residual stream of {model.cfg.d_model}, so its latents do not map to tokens; choose "
            "an SAE of the residual stream, of an attention or of an MLP output."
        )
    for part in ("attn", "mlp"):
        # In the bridge's own names, the layer's output before the norm that follows it.
        if layer is not None and site.endswith(f"{part}.hook_out"):
            gain = gain_after(model, layer, part)
            return directions if gain is None else directions.to(gain) * gain
    return directions


def normalised(sae: SAE, flat: Float[Tensor, "n d_in"]) -> tuple[Tensor, Tensor | None]:
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


def _output_heads(model: Model, sae: SAE, layer: int) -> Float[Tensor, "d_out d_model"]:
    """Output weights of the heads that the SAE writes: all, or the one it is trained on."""
    weights = model.blocks[layer].attn.W_O
    head = sae.cfg.metadata.hook_head_index
    return weights.flatten(0, 1) if head is None else weights[head]


def _through(
    model: Model, layer: int, part: str, directions: Tensor, weights: Tensor
) -> Float[Tensor, "n d_model"]:
    out = directions.to(device=weights.device, dtype=weights.dtype) @ weights
    gain = gain_after(model, layer, part)
    if gain is not None:
        out = out * gain.to(out)
    # Granite multiplies what each layer adds to the stream.
    return out * float(getattr(model.blocks[layer], "residual_contribution_scale", 1.0))


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


__all__ = [
    "norm_after",
    "normalised",
    "residual_directions",
    "site_written",
    "unit_writes",
    "writes_at",
]
