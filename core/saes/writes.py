"""What does a unit of a latent's activation write? At the SAE's site, and to the residual stream.

A decoder row alone does not say: SAEs that rescale activations by decoder norms write rows of
length 1, SAEs that normalise each input multiply what they write by that input's scale, and between
some sites and the stream there are output weights, and norms. Everything that speaks of what a
latent adds comes here; cosines between decoder rows need not, for they do not know of lengths.
"""

from collections.abc import Callable, Sequence
from typing import Any

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

from core.models.hooks import Model
from core.models.stream import StreamPath, path_to_stream
from core.saes import decode, head_of, sae_hook_name
from core.saes.site import read_at_site, rows_at_site

WRITES_VERSION = 2
"""Raised whenever latents are found to write something else than was said before: part of the keys
of stored results that depend on it without holding the directions themselves."""
PER_INPUT_SCALES = {
    "layer_norm": "standard deviation",
    "constant_norm_rescale": "root mean square",
}
"""Normalisations that multiply what is written by a measure of the input, and that measure."""

_ROWS_ALONE: set[Callable[..., Tensor]] = {
    StandardSAE.decode,
    JumpReLUSAE.decode,
    TopKSAE.decode,
    GatedSAE.decode,
    MatchingPursuitSAE.decode,
    Transcoder.decode,
}
"""Decoders that are `activations @ W_dec` and a bias, but for what is rescaled."""
_CHUNK = 64


def written_site(sae: SAE) -> str:
    """Site that the SAE's output belongs to: for a transcoder another than it reads.

    Raises:
        ValueError: a transcoder whose metadata does not say.
    """
    if not isinstance(sae, Transcoder):
        return sae_hook_name(sae)
    written = sae.cfg.metadata.hook_name_out
    if not isinstance(written, str):
        raise ValueError(
            "The transcoder does not say which site it writes; add hook_name_out to metadata in "
            "its cfg.json."
        )
    return written


def input_scale(sae: SAE) -> str | None:
    """Measure of each input that what the latents write is multiplied by; None for none."""
    if isinstance(sae, Transcoder):
        return None
    return PER_INPUT_SCALES.get(sae.cfg.normalize_activations)


@torch.no_grad()
def unit_writes(sae: SAE, latents: Sequence[int] | Int[Tensor, " n"]) -> Float[Tensor, "n d_out"]:
    """What one unit of each latent's activation adds to the SAE's output, wherever that is.

    Heads are flattened. For an SAE that normalises each input (`input_scale`) it is times the
    input's scale: this is what is added where that scale is 1.

    Raises:
        ValueError: a latent that does not exist.
    """
    chosen = _checked(sae, latents)
    if type(sae).decode not in _ROWS_ALONE:
        return _by_decoding(sae, chosen, None)
    rows = sae.W_dec[chosen]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        # A row of zeros writes nothing, whatever it is divided by.
        rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return rows


@torch.no_grad()
def writes_at(
    sae: SAE, latents: Sequence[int] | Int[Tensor, " n"], like: Float[Tensor, "n ..."]
) -> Float[Tensor, "n d_out"]:
    """What a unit of latent `latents[i]` adds to the SAE's output where it encoded `like[i]`.

    `unit_writes`, times the scale of `like[i]` for SAEs that normalise each input; the scale is
    held fixed. Raises as `unit_writes`.
    """
    if type(sae).decode not in _ROWS_ALONE:
        return _by_decoding(sae, _checked(sae, latents), like)
    rows = unit_writes(sae, latents)
    if input_scale(sae) is None:
        return rows
    scale = normalised(sae, like.flatten(1).to(rows))[1]
    return rows if scale is None else rows * scale


@torch.no_grad()
def residual_directions(
    model: Model,
    sae: SAE,
    latents: Sequence[int] | Int[Tensor, " n"],
    *,
    like: Float[Tensor, "n ..."] | None = None,
) -> Float[Tensor, "n d_model"]:
    """What one unit of each latent's activation adds to the residual stream.

    `unit_writes`, taken through the output weights for SAEs of hook_z and of an MLP's hidden layer.
    Where the model normalises what a layer adds (Gemma 2 and 3, OLMo 2), that norm's gain is in it
    and its division is left out, as the final norm's is wherever directions are read as tokens.
    For SAEs that normalise each input it is times the input's scale.

    With `like`, what the SAE encoded for each latent (activations of its site, of its whole site
    for an SAE of a single head), nothing is left out: `writes_at`, through the derivative of the
    norm at that place.

    Raises:
        ValueError: a latent that does not exist, a site that does not write to the stream, or (with
            `like`) a transcoder whose output a norm follows.
    """
    rows, shape = unit_writes(sae, latents), _site_shape(model, sae)
    site = written_site(sae)
    width = rows.shape[1] if shape is None else shape[0] * shape[1]
    path = path_to_stream(model, site, width)
    if like is not None:
        rows = writes_at(sae, latents, read_at_site(sae, like))
    if shape is not None:
        rows = rows_at_site(sae, rows, shape)
    if like is None or path.norm is None:
        return path.directions(rows)
    if isinstance(sae, Transcoder):
        raise ValueError(
            f"A norm follows {site}, and what stands there is not what this transcoder reads, so "
            "the direction at a position is not known; ask without like."
        )
    return path.directions_at(rows, like.flatten(1).to(rows))


def logit_notes(model: Model, sae: SAE) -> tuple[str, ...]:
    """What has to be known to read effects on logits, a sentence each; empty where nothing is.

    Raises ValueError as `residual_directions`.
    """
    notes = []
    measure = input_scale(sae)
    if measure is not None:
        notes.append(
            "This SAE normalises each input, so a unit of activation writes this times the input's "
            f"scale (its {measure})."
        )
    if stream_path(model, sae).norm is not None:
        notes.append(
            "The model normalises what this layer adds: the gain of that norm is in the figures, "
            "its division is left out, as the final norm's is."
        )
    if not _final_gain_is_folded(model):
        notes.append(
            "The model's final norm multiplies each number by a gain of its own, which is not "
            "folded into the unembedding here and is left out of these scores."
        )
    cap: Any = getattr(model.cfg, "output_logits_soft_cap", None)
    if cap is not None and cap > 0:
        notes.append(f"The model caps its logits at ±{float(cap):g}; scores are before the cap.")
    divided_by: Any = getattr(model.cfg, "logits_scaling", None)
    if divided_by is not None and divided_by != 1:
        notes.append(f"The model divides its logits by {divided_by:g}; scores are before that.")
    return tuple(notes)


def stream_path(model: Model, sae: SAE) -> StreamPath:
    """The way of what the SAE writes to the residual stream. Raises as `residual_directions`."""
    shape = _site_shape(model, sae)
    width = sae.W_dec.shape[1] if shape is None else shape[0] * shape[1]
    return path_to_stream(model, written_site(sae), width)


def normalised(
    sae: SAE, flat: Float[Tensor, "n d_in"]
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n 1"] | None]:
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


def _final_gain_is_folded(model: Model) -> bool:
    """Whether the final norm does no more than subtract the mean, if that, and divide."""
    norm: Any = getattr(model, "ln_final", None)
    if not callable(norm):
        return True
    weight = next(model.parameters())
    x = torch.randn(int(model.cfg.d_model), generator=torch.Generator().manual_seed(0)).to(weight)
    with torch.no_grad():
        y = norm(x[None, None])[0, 0].float()
    cosines = [
        torch.cosine_similarity(y, expected.float(), dim=0) for expected in (x, x - x.mean())
    ]
    return bool(max(cosines) > 1 - 1e-4)


def _site_shape(model: Model, sae: SAE) -> tuple[int, int] | None:
    """(n_heads, d_head) for an SAE of a single head, whose rows are those of that head alone."""
    if head_of(sae) is None:
        return None
    return int(model.cfg.n_heads), int(model.cfg.d_head)


def _checked(sae: SAE, latents: Sequence[int] | Tensor) -> Int[Tensor, " n"]:
    numbers = latents if isinstance(latents, Tensor) else torch.tensor(list(latents))
    numbers = numbers.to(device=sae.W_dec.device, dtype=torch.long)
    d_sae = sae.cfg.d_sae
    wrong = numbers[(numbers < 0) | (numbers >= d_sae)]
    if len(wrong):
        raise ValueError(
            f"There is no latent {int(wrong[0])}; this SAE has {d_sae}, so choose 0 to {d_sae - 1}."
        )
    return numbers


def _by_decoding(sae: SAE, latents: Tensor, like: Tensor | None) -> Float[Tensor, "n d_out"]:
    """Decoders are affine: the difference that a one makes is what is written."""
    rows = []
    for start in range(0, len(latents), _CHUNK):
        part = slice(start, start + _CHUNK)
        zeros = torch.zeros(
            len(latents[part]), sae.cfg.d_sae, device=sae.W_dec.device, dtype=sae.W_dec.dtype
        )
        ones = zeros.scatter(1, latents[part, None], 1.0)
        at = None if like is None else like[part]
        # One number a head: where there is nothing to go by, any width will do.
        d_head = 1 if at is None else None
        change = decode(sae, ones, like=at, d_head=d_head)
        change = change - decode(sae, zeros, like=at, d_head=d_head)
        rows.append(change.flatten(1))
    return torch.cat(rows) if rows else sae.W_dec[latents]
