"""The scale on which an SAE was trained: measured on a text, and folded into its weights.

An SAE with `normalize_activations="expected_average_only_in"` was trained on s·x, where
s = √d_in / (mean norm of x over the training text), as sae_lens defines it. Its latents for x are
those it was trained to give for s·x, and what it writes for x is what it writes for s·x, by s.

Folding, for f = φ((s·x − b_dec) W_enc + b_enc) and x̂ = (f W_dec + b_dec) / s, with b_dec taken off
the input or not: W_enc becomes s·W_enc, W_dec becomes W_dec/s and b_dec becomes b_dec/s. Thresholds
(JumpReLU), b_enc, b_gate, b_mag, r_mag and a transcoder's skip matrix stay: what they are compared
with or added to has not changed. A TopK SAE that scales pre-activations by decoder norms would get
other latents from a smaller decoder, so the norms are folded into its encoder first.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from sae_lens import SAE
from safetensors.torch import load_file
from torch import Tensor

from core.catalog.input_scale import (
    SCALED,
    WHITENED,
    WHITENING_FILE,
    input_scale_problem,
    saved_factor,
)
from core.corpus.token_set import TokenSet
from core.models.hooks import Model, cache_sites

ESTIMATE_TOKENS = 4096
"""Positions on which the factor is measured."""
_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class NormEstimate:
    """A factor measured on a sample of text."""

    factor: float
    """√d_in by the mean norm of the activations."""
    n_tokens: int
    """Positions whose activations were measured, those of BOS included."""
    standard_error: float
    """Of the factor, from the spread of the norms between rows."""


def needs_norm_factor(sae: SAE) -> bool:
    """Whether the SAE reads scaled activations and nobody has told the scale yet."""
    return getattr(getattr(sae, "cfg", None), "normalize_activations", None) == SCALED


def norm_factor(activations: Float[Tensor, "... d_in"], d_in: int) -> float:
    """√d_in / mean norm of `activations` (heads flattened), over all positions.

    Raises ValueError for activations that are all zero, or not finite.
    """
    flat = activations.reshape(-1, d_in).float()
    mean = float(flat.norm(dim=-1).double().mean()) if len(flat) else 0.0
    if not math.isfinite(mean) or mean <= 0:
        raise ValueError(
            f"The activations have a mean norm of {mean}, from which no scale can be told; use "
            "another text, or load the model in float32."
        )
    return d_in**0.5 / mean


def estimate_norm_factor(model: Model, sae: SAE, tokens: TokenSet) -> NormEstimate:
    """The factor at the SAE's site on the positions of `tokens` that count.

    As in training with sae_lens, rows should be as long as the SAE's contexts, and BOS should
    count, whose norm is large (`default_packing(..., layout="windows", include_bos=True)`).

    Raises ValueError as `norm_factor` and `cache_sites`.
    """
    hook_name = str(sae.cfg.metadata.hook_name)
    device = next(model.parameters()).device
    sums, counts = [], []
    step = max(1, _BATCH_TOKENS // tokens.context)
    for first in range(0, tokens.n_rows, step):
        rows = slice(first, first + step)
        ids = torch.from_numpy(tokens.tokens[rows].astype("int64")).to(device)
        site = cache_sites(model, ids, [hook_name])[hook_name]
        norms = site.flatten(2).float().norm(dim=-1).double().cpu()
        mask = torch.from_numpy(tokens.mask[rows])
        sums.append((norms * mask).sum(1))
        counts.append(mask.sum(1))
    total, n = torch.cat(sums), torch.cat(counts)
    mean = float(total.sum() / n.sum())
    factor = norm_factor(torch.full((1, 1), mean), 1) * sae.cfg.d_in**0.5
    # Of a ratio of sums over rows, which differ in length.
    spread = float((total - mean * n).pow(2).sum().sqrt()) / float(n.sum())
    return NormEstimate(factor, int(n.sum()), factor * spread / mean)


@torch.no_grad()
def fold_norm_factor(sae: SAE, factor: float, *, source: str) -> SAE:
    """The same SAE object, from now on one of unscaled activations.

    `source` says where the factor is from; both are kept in the SAE's metadata (`norm_factor`,
    `norm_factor_source`). Raises ValueError for an SAE that needs no factor, one that it cannot be
    folded into, and a factor that is not a positive number.
    """
    name = sae.cfg.metadata.hook_name
    if not needs_norm_factor(sae):
        raise ValueError(
            f"The SAE at {name} takes no norm_factor: its normalize_activations is "
            f"{sae.cfg.normalize_activations!r}. Load it without one."
        )
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise ValueError(f"norm_factor is {factor!r}; give a positive number.")
    architecture = sae.cfg.architecture()
    problem = input_scale_problem({**vars(sae.cfg), "architecture": architecture}, None)
    if problem is not None:
        raise ValueError(problem)
    if architecture == "temporal":
        # It has a scale of its own, which it applies while it runs.
        sae.cfg.normalize_activations = "constant_scalar_rescale"
        sae.cfg.activation_normalization_factor = factor
        sae._setup_activation_normalization()
    else:
        if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
            sae.fold_W_dec_norm()
            sae.cfg.rescale_acts_by_decoder_norm = False
        sae.W_enc.data *= factor
        sae.W_dec.data /= factor
        sae.b_dec.data /= factor
        sae.cfg.normalize_activations = "none"
    sae.cfg.metadata.norm_factor = float(factor)
    sae.cfg.metadata.norm_factor_source = source
    return sae


def fold_saved(sae: SAE, folder: Path) -> SAE:
    """Fold in what the trainer kept beside the weights, if it did and if it is needed.

    Raises ValueError for statistics that are needed, not there and not to be estimated.
    """
    architecture = sae.cfg.architecture()
    problem = input_scale_problem({**vars(sae.cfg), "architecture": architecture}, folder)
    if problem is not None:
        raise ValueError(f"{folder}: {problem}")
    if sae.cfg.normalize_activations == WHITENED:
        tensors = load_file(folder / WHITENING_FILE)
        wanted = {"mean": 1, "matrix": 2, "inverse_matrix": 2}
        shapes = {name: [sae.cfg.d_in] * n for name, n in wanted.items()}
        found = {name: list(tensors[name].shape) for name in wanted if name in tensors}
        if found != shapes:
            raise ValueError(
                f"{folder / WHITENING_FILE} holds {found}, not {shapes}; copy it again."
            )
        sae.fold_activation_whitening(tensors["mean"], tensors["matrix"], tensors["inverse_matrix"])
    factor = saved_factor(folder) if needs_norm_factor(sae) else None
    return sae if factor is None else fold_norm_factor(sae, factor, source="its trainer's file")


def refuse_unscaled(sae: SAE, what: str) -> None:
    """Raise ValueError, with the remedy, for an SAE whose scale nobody has told."""
    if needs_norm_factor(sae):
        raise ValueError(
            f"{what} was trained on activations scaled to a mean norm of √{sae.cfg.d_in} "
            f"(normalize_activations {SCALED!r}), and the factor is not in its files: give "
            "norm_factor=, which core.saes.normalisation.estimate_norm_factor measures on a text, "
            "or save the SAE with it folded in (sae.fold_activation_norm_scaling_factor)."
        )
