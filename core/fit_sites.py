"""Where else, and how else, could an SAE have been trained? Neighbouring sites and other inputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.fit_sums import Undo
from core.models.hooks import Model, has_hook, hooks_at, layer_of_hook

SITES = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
    "attn.hook_in",
    "mlp.hook_in",
    "mlp.hook_out",
    "ln1.hook_normalized",
    "ln2.hook_normalized",
)
"""Sites of a block at which SAEs are trained."""

_SAME = 1e-5
"""Relative difference below which two sites hold one tensor."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another input that the SAE could have been trained on."""

    words: str
    """What it is, for "it fits ... better"."""
    hook_name: str
    """Site that is read."""
    hook_name_out: str
    """Site that is to be written."""
    sae: SAE
    """The SAE, perhaps without the normalisation that it does by itself."""
    read: Float[Tensor, "n ..."]
    """What it is given."""
    wanted: Float[Tensor, "n ..."]
    """What it is to write."""
    undo: Undo | None = None
    """From what it writes to the units of `wanted`."""


def neighbour_names(model: Model, hook_name: str) -> list[str]:
    """Sites of the same layer, the one before and the one after, that the model has."""
    layer, n_layers = layer_of_hook(hook_name) or 0, model.cfg.n_layers
    near = [it for it in (layer, layer - 1, layer + 1) if 0 <= it < n_layers]
    names = [f"blocks.{it}.{site}" for it in near for site in SITES]
    names += ["hook_embed"] if layer <= 1 else []
    return [name for name in names if name != hook_name and has_hook(model, name)]


@torch.no_grad()
def read_sites(
    model: Model,
    tokens: Int[Tensor, "rows pos"],
    names: Mapping[str, Bool[Tensor, "rows pos"]],
) -> dict[str, Float[Tensor, "n ..."]]:
    """Activations of sites at the positions that are asked for of each, from one run.

    A site that does not fire, or holds no vector a position, is left out.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(activations: Any, hook: Any) -> None:
            if isinstance(activations, Tensor) and activations.shape[:2] == tokens.shape:
                found[name] = activations.detach()[names[name].to(activations.device)]

        return hook

    with hooks_at(model, [(name, keep(name)) for name in names]):
        model(tokens, return_type=None)
    return {name: it for name, it in found.items() if it.dim() >= 2}


def other_sites(
    sae: SAE, found: Mapping[str, Tensor], hook_name: str, hook_out: str
) -> Iterator[Alternative]:
    """The same SAE at other sites of its width, each tensor once; for transcoders, other outputs
    as well.

    `found` are the activations by site, `hook_name` and `hook_out` what the SAE's config says.
    """
    seen = [found[hook_name]]
    is_transcoder = hook_out != hook_name
    for name, activations in found.items():
        if name == hook_name or _width(activations) != sae.cfg.d_in or _among(activations, seen):
            continue
        seen.append(activations)
        out = hook_out if is_transcoder else name
        words = f"{name} instead of {hook_name}"
        yield Alternative(words, name, out, sae, activations, found[out])
    if not is_transcoder:
        return
    seen = [found[hook_out]]
    for name, activations in found.items():
        if _width(activations) != sae.W_dec.shape[1] or _among(activations, seen):
            continue
        seen.append(activations)
        words = f"{name} instead of {hook_out} as what it predicts"
        yield Alternative(words, hook_name, name, sae, found[hook_name], activations)


def other_scales(
    sae: SAE, read: Tensor, wanted: Tensor, hook_name: str, hook_out: str
) -> Iterator[Alternative]:
    """The same site, normalised otherwise than the SAE's config says."""
    said = sae.cfg.normalize_activations
    plain = _without_normalisation(sae)
    flat = read.flatten(1)
    is_transcoder = hook_out != hook_name

    def of(words: str, x: Tensor, undo: Undo | None) -> Alternative:
        given = x.view_as(read)
        return Alternative(words, hook_name, hook_out, plain, given, wanted, undo)

    known = sae.cfg.metadata.norm_factor
    if known:
        yield of("its input unscaled", flat / known, lambda it, _: it * known)
    elif said != "none":
        yield of("its input without the normalisation of its config", flat, None)
    else:
        mean = float(flat.norm(dim=-1).mean())
        if mean > 0:
            scale = sae.cfg.d_in**0.5 / mean
            words = f"its input scaled to a mean norm of √{sae.cfg.d_in}, that is times {scale:.3g}"
            yield of(words, flat * scale, lambda it, _: it / scale)
    if said == "none" and not is_transcoder:
        mu = flat.mean(-1, keepdim=True)
        std = (flat - mu).std(-1, keepdim=True)

        def back(written: Tensor, at: Tensor) -> Tensor:
            place = at.to(std.device)
            return written * std[place].to(written) + mu[place].to(written)

        yield of("its input standardised (layer_norm)", (flat - mu) / (std + 1e-5), back)
        if float(mu.abs().max()) > _SAME * float(flat.abs().max()):
            centred = flat - mu
            yield of("its input less the mean over its dimensions", centred, None)


def _without_normalisation(sae: SAE) -> SAE:
    """The same SAE (shared parameters) with the normalisation that it does by itself off."""
    view = copy(sae)
    view.cfg = copy(sae.cfg)
    view.cfg.normalize_activations = "none"
    view.run_time_activation_norm_fn_in = lambda x: x
    view.run_time_activation_norm_fn_out = lambda x: x
    return view


def _width(activations: Tensor) -> int:
    return activations.flatten(1).shape[-1]


def _among(activations: Tensor, seen: list[Tensor]) -> bool:
    def same(other: Tensor) -> bool:
        if other.flatten(1).shape != activations.flatten(1).shape:
            return False
        gap = (other.flatten(1) - activations.flatten(1)).abs().max()
        return float(gap) <= _SAME * float(other.abs().max())

    with suppress(RuntimeError):  # on different devices, of a model spread over several
        return any(same(other) for other in seen)
    return False
