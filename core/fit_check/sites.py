"""Where else, and how else, could an SAE have been trained? Neighbouring sites and other inputs."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.catalog.input_scale import SCALED
from core.fit_check.sums import Undo
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
    """What it is, to follow "it fits better"."""
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
    normalisation: str = ""
    """sae_lens' `normalize_activations` of such an SAE, where there is one."""
    undo: Undo | None = None
    """From what it writes to the units of `wanted`."""


def neighbour_names(model: Model, hook_name: str) -> list[str]:
    """Sites of the same layer, the one before and the one after, that the model has."""
    layer, n_layers = layer_of_hook(hook_name) or 0, model.cfg.n_layers
    near = [nearby for nearby in (layer, layer - 1, layer + 1) if 0 <= nearby < n_layers]
    names = [f"blocks.{nearby}.{site}" for nearby in near for site in SITES]
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
    return {name: tensor for name, tensor in found.items() if tensor.dim() >= 2}


def other_sites(
    sae: SAE, found: Mapping[str, Tensor], hook_name: str, hook_out: str
) -> Iterator[Alternative]:
    """The same SAE at other sites of its width, each tensor once; for transcoders, other outputs
    as well.

    `found` are the activations by site, `hook_name` and `hook_out` what the SAE's config says.
    """
    is_transcoder = hook_out != hook_name
    for names in _tensors(found, sae.cfg.d_in, hook_name):
        out = hook_out if is_transcoder else names[0]
        words = f"at {_also(names)}"
        yield Alternative(words, names[0], out, sae, found[names[0]], found[out])
    if is_transcoder:
        for names in _tensors(found, sae.W_dec.shape[1], hook_out):
            words = f"with {_also(names)} as what it predicts"
            yield Alternative(words, hook_name, names[0], sae, found[hook_name], found[names[0]])


def other_scales(
    sae: SAE, read: Tensor, wanted: Tensor, hook_name: str, hook_out: str
) -> Iterator[Alternative]:
    """The same site, normalised otherwise than the SAE's config says."""
    said = sae.cfg.normalize_activations
    plain = _without_normalisation(sae)
    flat = read.flatten(1)
    is_transcoder = hook_out != hook_name

    def of(words: str, x: Tensor, undo: Undo | None, normalisation: str = "") -> Alternative:
        given = x.view_as(read)
        return Alternative(words, hook_name, hook_out, plain, given, wanted, normalisation, undo)

    known = sae.cfg.metadata.norm_factor
    if said != "none":
        yield of("without the normalisation that its config names", flat, None, "none")
        return
    if known:
        yield of(
            f"without the scale {known:.3g} of its input",
            flat / known,
            lambda written, _: written * known,
            "none",
        )
    mean = float(flat.norm(dim=-1).mean())
    root = sae.cfg.d_in**0.5
    scales = {2.0**power: "" for power in (*range(-6, 0), *range(1, 7))}
    if mean > 0:
        scales[root / mean] = f", which makes its mean norm √{sae.cfg.d_in}"
        scales[1 / mean] = ", which makes its mean norm 1"
    for scale, why in scales.items():
        words = f"with its input multiplied by {scale:.3g}{why or ' or so'}"
        is_usual = mean > 0 and scale == root / mean
        yield of(words, flat * scale, partial(_divided, scale), SCALED if is_usual else "")
    if not is_transcoder:
        mu = flat.mean(-1, keepdim=True)
        std = (flat - mu).std(-1, keepdim=True)

        def back(written: Tensor, at: Tensor) -> Tensor:
            place = at.to(std.device)
            return written * std[place].to(written) + mu[place].to(written)

        yield of(
            "with its input standardised (layer_norm)",
            (flat - mu) / (std + 1e-5),
            back,
            "layer_norm",
        )
        if float(mu.abs().max()) > _SAME * float(flat.abs().max()):
            centred = flat - mu
            yield of("with the mean over its dimensions taken off its input", centred, None)


def _divided(scale: float, written: Tensor, at: Tensor) -> Tensor:
    return written / scale


def _without_normalisation(sae: SAE) -> SAE:
    """The same SAE (shared parameters) with the normalisation that it does by itself off."""
    view = copy(sae)
    view.cfg = copy(sae.cfg)
    view.cfg.normalize_activations = "none"
    view.run_time_activation_norm_fn_in = lambda x: x
    view.run_time_activation_norm_fn_out = lambda x: x
    return view


def _tensors(found: Mapping[str, Tensor], width: int, said: str) -> list[list[str]]:
    """Names of the sites of that width, those that hold one tensor together.

    Names like the one that was said come first. The tensor of `said` itself is left out.
    """
    groups: list[list[str]] = []
    suffix = said.split(".", 2)[-1]
    for name in sorted(found, key=lambda tensor_name: tensor_name.split(".", 2)[-1] != suffix):
        if found[name].flatten(1).shape[1] != width:
            continue
        group = next((names for names in groups if _same(found[names[0]], found[name])), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return [names for names in groups if said not in names]


def _also(names: list[str]) -> str:
    return names[0] + (f" (the same as {', '.join(names[1:])})" if len(names) > 1 else "")


def _same(one: Tensor, other: Tensor) -> bool:
    a, b = one.flatten(1), other.flatten(1)
    if a.device != b.device:
        return False
    return float((a - b).abs().max()) <= _SAME * float(a.abs().max())
