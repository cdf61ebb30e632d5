"""Unit vectors to put in a prompt: what latents write, and random ones to compare with."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.logit_lens import residual_directions
from core.models import Model, cache_sites
from core.patch_scoping.inject import check_layer
from core.patch_scoping.prompt import ScopePrompt


@torch.no_grad()
def unit_directions(model: Model, sae: SAE, latents: Sequence[int]) -> Float[Tensor, "n d_model"]:
    """What each latent writes to the residual stream, of norm 1, on the model's device.

    Raises ValueError for latents that do not exist, write elsewhere, or write nothing.
    """
    directions = residual_directions(model, sae, latents)
    directions = directions.to(torch.promote_types(model.cfg.dtype, torch.float32))
    if directions.shape[1] != model.cfg.d_model:
        raise ValueError(
            f"The SAE's latents write {directions.shape[1]} numbers and the model's residual "
            f"stream has {model.cfg.d_model}; use an SAE of this model or of its base model."
        )
    norms = directions.norm(dim=-1, keepdim=True)
    silent = [latents[i] for i in torch.nonzero(norms[:, 0] == 0)[:, 0].tolist()]
    if silent:
        raise ValueError(f"Latent {silent[0]} has a decoder direction of zeros; choose another.")
    return (directions / norms).to(next(model.parameters()).device)


@torch.no_grad()
def mean_embedding(model: Model) -> Float[Tensor, " d_model"]:
    """Unit direction of the mean token embedding: a word that is no word in particular."""
    W_E = model.W_E
    mean = W_E.to(torch.promote_types(W_E.dtype, torch.float32)).mean(0)
    return mean / mean.norm().clamp_min(torch.finfo(mean.dtype).tiny)


def random_directions(model: Model, n: int, *, seed: int = 0) -> Float[Tensor, "n d_model"]:
    """`n` unit directions, uniform on the sphere; the same for the same seed."""
    if n < 1:
        raise ValueError(f"{n} random directions are too few; ask for 1 or more.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, int(model.cfg.d_model), generator=generator, dtype=torch.float64)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    weight = next(model.parameters())
    return drawn.to(device=weight.device, dtype=torch.promote_types(weight.dtype, torch.float32))


def typical_norm(model: Model, prompt: ScopePrompt, layer: int) -> float:
    """Median norm of the residual stream before `layer` over the prompt, its first token left out.

    The scale at which an injected vector is as long as what stands around it. The first token is
    left out because models park large norms there; the median is deaf to other such tokens.
    """
    check_layer(model, layer)
    site = f"blocks.{layer}.hook_resid_pre"
    tokens = torch.tensor([prompt.tokens], device=next(model.parameters()).device)
    norms = cache_sites(model, tokens, [site])[site][0].float().norm(dim=-1)
    return float((norms[1:] if len(norms) > 1 else norms).median())
