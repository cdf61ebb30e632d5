"""What scores mean: the same run on things that should be harder to explain than latents.

Each control is an SAE, so that everything that takes one runs on it unchanged. Even random units
can be explained to a degree (arXiv 2501.17727): a score says something only beside theirs.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE, StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from core.corpus.token_set import TokenSet
from core.models.hooks import Model, has_hook, hook_width
from core.saes import encode, head_of, sae_hook_name, sae_inputs, sae_layer

CONTROLS = ("neurons", "random directions", "random weights")
"""MLP neurons of the SAE's layer; random directions of its site that fire as often as the latents;
the SAE with encoder and decoder drawn anew."""

_CALIBRATION_ROWS = 64


@torch.no_grad()
def control_sae(
    kind: str,
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    token_set: TokenSet,
    *,
    seed: int = 0,
) -> tuple[SAE, list[int]]:
    """A control for `latents` of an SAE, and which of its latents to run instead of them.

    Args:
        kind: one of `CONTROLS`.
        model: either model class; run on a few rows for random directions.
        sae: the SAE that is controlled.
        latents: what was or will be explained.
        token_set: tells how often the latents fire, for random directions.
        seed: of the random choice.

    Returns:
        An SAE in eval mode, and as many of its latents as there are `latents` (fewer neurons where
        the layer has fewer). The neurons' SAE reads the MLP; its latents are their positive parts.
        Whether latents of random weights ever fire is not known beforehand.

    Raises:
        ValueError: an unknown kind, a latent that does not exist, or no MLP in the SAE's layer.
    """
    wrong = [latent for latent in latents if not 0 <= latent < sae.cfg.d_sae]
    if wrong or not len(latents):
        raise ValueError(
            f"The latents are {list(latents)}; name one or more from 0 to {sae.cfg.d_sae - 1}."
        )
    generator = torch.Generator().manual_seed(seed)
    if kind == "neurons":
        return _neurons(model, sae, len(latents), generator)
    if kind == "random directions":
        return _directions(model, sae, latents, token_set, generator)
    if kind == "random weights":
        control = deepcopy(sae)
        for weights in (control.W_enc, control.W_dec):
            noise = torch.randn(weights.shape, generator=generator)
            weights.data = (weights.mean() + noise.to(weights) * weights.std()).contiguous()
        return control, list(latents)
    raise ValueError(f"There is no control {kind!r}; choose one of {', '.join(CONTROLS)}.")


def _neurons(model: Model, sae: SAE, n: int, generator: torch.Generator) -> tuple[SAE, list[int]]:
    layer = sae_layer(sae)
    # The residual stream after the last layer has no MLP of its own; neither has the embedding.
    site = f"blocks.{layer}.mlp.hook_post"
    if layer is None or not has_hook(model, site):
        raise ValueError(
            f"{sae_hook_name(sae)} is in no layer with an MLP; use another control instead."
        )
    width = hook_width(model, site)
    chosen = torch.randperm(width, generator=generator)[:n]
    one_hot = torch.zeros(len(chosen), width)
    one_hot[torch.arange(len(chosen)), chosen] = 1
    control = _linear_sae(sae, one_hot, torch.zeros(len(chosen)), site)
    return control, list(range(len(chosen)))


def _directions(
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    token_set: TokenSet,
    generator: torch.Generator,
) -> tuple[SAE, list[int]]:
    site = sae_hook_name(sae)
    rows = np.linspace(0, token_set.n_rows - 1, min(_CALIBRATION_ROWS, token_set.n_rows))
    rows = np.unique(rows.astype(np.int64))
    ids = torch.from_numpy(token_set.tokens[rows].astype(np.int64))
    ids = ids.to(next(model.parameters()).device)
    counts = torch.from_numpy(token_set.mask[rows]).to(ids.device)
    activations = sae_inputs(model, sae, ids)[counts]
    flat = activations.reshape(len(activations), -1).float().cpu()
    directions = torch.randn(len(latents), flat.shape[1], generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    projections = (flat - flat.mean(0)) @ directions.T
    biases = torch.empty(len(latents))
    for i, count in enumerate(_firings(sae, activations, latents).tolist()):
        # At least one firing, so that there is something to explain.
        above = min(max(1, count), len(flat) - 1)
        ordered = projections[:, i].sort(descending=True).values
        biases[i] = -(ordered[above - 1] + ordered[above]) / 2
    biases = biases - directions @ flat.mean(0)
    control = _linear_sae(sae, directions, biases, site, head=head_of(sae))
    return control, list(range(len(latents)))


def _firings(
    sae: SAE, activations: Float[Tensor, "n ..."], latents: Sequence[int]
) -> Int[Tensor, " n_latents"]:
    """Positions at which each latent fires."""
    parts = [(encode(sae, part)[:, list(latents)] > 0).sum(0) for part in activations.split(256)]
    return torch.stack(parts).sum(0)


def _linear_sae(
    like: SAE,
    directions: Float[Tensor, "n d_in"],
    biases: Float[Tensor, " n"],
    hook_name: str,
    *,
    head: int | None = None,
) -> SAE:
    """A standard SAE whose latents are the directions, read and written alike."""
    n, d_in = directions.shape
    told = like.cfg.metadata
    metadata = SAEMetadata(
        hook_name=hook_name,
        hook_head_index=head,
        model_name=told.model_name,
        prepend_bos=told.prepend_bos,
    )
    config = StandardSAEConfig(
        d_in=d_in,
        d_sae=n,
        dtype="float32",
        apply_b_dec_to_input=False,
        reshape_activations="hook_z" if hook_name.endswith("hook_z") else "none",
        metadata=metadata,
    )
    sae = StandardSAE(config)
    sae.W_enc.data, sae.W_dec.data = directions.T.contiguous(), directions.clone()
    sae.b_enc.data, sae.b_dec.data = biases.clone(), torch.zeros(d_in)
    return sae.eval().requires_grad_(False).to(like.W_dec.device)
