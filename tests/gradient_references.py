"""Plain definitions of the gradients, dense and with hooks of their own, to compare with."""

from collections.abc import Callable
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor
from torch.func import jacrev

from core.models import Model
from core.saes import decode, encode, sae_hook_name


def run_hooked(
    model: Model,
    tokens: Tensor,
    hooks: dict[str, Callable[[Tensor], Tensor]],
    read: list[str],
) -> tuple[dict[str, Tensor], Tensor]:
    """Whole runs from the tokens: the sites read (before their own hook), and the logits."""
    seen: dict[str, Tensor] = {}

    def hook_of(name: str) -> Callable[..., Tensor | None]:
        def hook(activations: Tensor, hook: Any) -> Tensor | None:
            seen[name] = activations
            if name not in hooks:
                return None
            return hooks[name](activations).reshape(activations.shape)

        return hook

    names = list(dict.fromkeys([*hooks, *read]))
    logits = model.run_with_hooks(tokens, fwd_hooks=[(name, hook_of(name)) for name in names])
    return {name: seen[name] for name in read}, logits


def site_written(sae: SAE) -> str:
    return sae.cfg.metadata.hook_name_out or sae_hook_name(sae)


def frozen_hooks(clean: dict[str, Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
    return {name: lambda x, value=value: value for name, value in clean.items()}


def latent_jacobian(
    tokens: Tensor, sae_from: SAE, sae_to: SAE, model: Model, *, frozen: tuple[str, ...] = ()
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Jacobian [n_next, n_prev] by jacrev over the active earlier latents; dense acts."""
    read, target = sae_hook_name(sae_from), sae_hook_name(sae_to)
    with torch.no_grad():
        clean, _ = run_hooked(model, tokens, {}, [read, target, *frozen])
    prev, next_ = encode(sae_from, clean[read]), encode(sae_to, clean[target])
    mask = prev != 0
    keep = frozen_hooks({name: clean[name] for name in frozen})

    def later(values: Tensor) -> Tensor:
        latents = prev.index_put(mask.nonzero(as_tuple=True), values)
        out = decode(sae_from, latents, like=clean[read])
        if hasattr(sae_from, "W_skip"):
            out = out + clean[read] @ sae_from.W_skip.T
        if site_written(sae_from) == target:
            return encode(sae_to, out)
        hooks = {**keep, site_written(sae_from): lambda x: out}
        return encode(sae_to, run_hooked(model, tokens, hooks, [target])[0][target])

    recon = later(prev[mask]).detach()
    full = jacrev(lambda values: later(values)[recon > 0])(prev[mask])
    return full[:, (prev[mask] > 0)], prev, next_, recon


def token_jacobian(tokens: Tensor, sae: SAE, model: Model) -> tuple[Tensor, Tensor]:
    """Jacobian [batch, pos, n_active] with respect to scales of the embedding sums."""
    target = sae_hook_name(sae)

    def latents(scales: Tensor) -> Tensor:
        hooks = {"blocks.0.hook_resid_pre": lambda x: x * scales[..., None]}
        return encode(sae, run_hooked(model, tokens, hooks, [target])[0][target])

    ones = torch.ones(tokens.shape, dtype=sae.W_dec.dtype)
    acts = latents(ones).detach()
    jacobian = jacrev(lambda scales: latents(scales)[acts > 0])(ones)
    return jacobian.permute(1, 2, 0), acts


def logit_jacobian(tokens: Tensor, sae: SAE, model: Model) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Jacobian [vocab, n_active], logits, reconstructed logits, dense acts."""
    read = sae_hook_name(sae)
    with torch.no_grad():
        clean, logits = run_hooked(model, tokens, {}, [read])
    acts = encode(sae, clean[read])
    mask = acts > 0

    def later(values: Tensor) -> Tensor:
        latents = acts.index_put(mask.nonzero(as_tuple=True), values)
        out = decode(sae, latents, like=clean[read])
        if hasattr(sae, "W_skip"):
            out = out + clean[read] @ sae.W_skip.T
        return run_hooked(model, tokens, {site_written(sae): lambda x: out}, [])[1][0, -1]

    return jacrev(later)(acts[mask]), logits[0, -1], later(acts[mask]).detach(), acts
