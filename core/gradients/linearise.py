"""A segment's derivatives at one prompt, read off a recorded run; None where they are not known.

Known are blocks built as GPT-2's are: attention, then an MLP of one hidden layer, each reading the
stream through a norm and adding to it. Whether a model is of that kind is not left to its name:
what comes out is compared with autograd on the prompt itself.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.gradients.block_vjp import (
    AttentionSlope,
    MlpSlope,
    NormSlope,
    Part,
    Place,
    Pullback,
    way,
)
from core.gradients.segment import LOGIT_SITE, Segment
from core.models.hooks import Model, has_hook, layer_of_hook, resolve_hook_name

_TOLERANCE = 1e-4
"""Largest deviation from autograd, relative to its largest entry."""
_SITES = {
    "hook_resid_pre": ("stream", 0),
    "hook_resid_post": ("stream", 1),
    "attn.hook_z": ("z", 0),
    "hook_attn_out": ("attn_out", 0),
    "hook_resid_mid": ("mid", 0),
    "hook_mlp_out": ("mlp_out", 0),
}
"""Kind of a site, and what is added to its layer."""
_READ = {
    "attention": (
        "hook_resid_pre",
        "ln1.hook_scale",
        *(f"attn.hook_{part}" for part in ("q", "k", "v", "pattern", "z")),
    ),
    "mlp": ("hook_resid_mid", "ln2.hook_scale", "mlp.hook_pre", "mlp.hook_post"),
}


def parts_passed(segment: Segment) -> list[Part] | None:
    """Parts of blocks between the sites, if the segment may be known by them; None otherwise."""
    source, target = _ends(segment)
    if source is None or target is None or not segment.is_causal or source == target:
        return None
    passed = way(source, target)
    if passed is None:
        return None
    if target[0] in ("attn_out", "z"):
        passed = [("attention", target[1]), *passed]
    elif target[0] == "mlp_out":
        passed = [("mlp", target[1]), *passed]
    cfg = segment.model.cfg
    is_plain = (
        all(site.endswith(("hook_pattern", "hook_scale")) for site in segment.frozen)
        and cfg.normalization_type in ("LN", "LNPre", "RMS", "RMSPre")
        and not getattr(cfg, "parallel_attn_mlp", False)
        and getattr(cfg, "positional_embedding_type", None) == "standard"
        and cfg.dtype in (torch.float32, torch.float64)
        and all(
            has_hook(segment.model, f"blocks.{layer}.{name}")
            for part, layer in passed
            for name in _READ[part]
        )
    )
    return passed if is_plain and any(part == "attention" for part, _ in passed) else None


def linearise(
    segment: Segment, base: Float[Tensor, "1 pos ..."], item: Int[Tensor, " 1"]
) -> Pullback | None:
    """The segment around `base`, activations of its source site; None where it is not known.

    Its norms may hold their scales and its heads their patterns, as the segment says.
    """
    passed = parts_passed(segment)
    source, target = _ends(segment)
    if passed is None or source is None or target is None:
        return None
    names = [f"blocks.{layer}.{name}" for part, layer in passed for name in _READ[part]]
    after = f"blocks.{target[1] - 1}.hook_resid_post"
    if target[0] == "final":
        names += [after, "ln_final.hook_scale"]
    with torch.enable_grad():
        x = base.detach().clone().requires_grad_(True)
        seen = segment.read(x, item, names)
        y = seen[segment.target_site]
        try:
            found = Pullback(
                source=source,
                target=target,
                attention={
                    layer: _attention(segment, layer, seen)
                    for part, layer in passed
                    if part == "attention"
                },
                mlps={layer: _mlp(segment, layer, seen) for part, layer in passed if part == "mlp"},
                final=_norm(segment, "ln_final", seen[after], seen)
                if target[0] == "final"
                else None,
                w_o=_output_weights(segment.model, source[1]) if source[0] == "z" else None,
            )
        except _UnknownBlockError:
            return None
        return found if _agrees(found, x, y) else None


class _UnknownBlockError(Exception):
    """A part of a block that is built in another way."""


def _agrees(found: Pullback, x: Tensor, y: Tensor) -> bool:
    """Whether autograd says the same of a random direction at the last position."""
    if y.grad_fn is None:
        return False
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(1, y[0, -1].numel(), generator=generator).to(y)
    seed = torch.zeros_like(y).flatten(2)
    seed[0, -1] = row[0]
    (grads,) = torch.autograd.grad(y, x, seed.view_as(y))
    mine = found(row, torch.tensor([y.shape[1] - 1], device=y.device))
    if mine.numel() != grads.numel():
        return False
    error = (mine.flatten() - grads.flatten()).abs().max()
    return bool(error <= _TOLERANCE * grads.abs().max())


def _ends(segment: Segment) -> tuple[Place | None, Place | None]:
    model = segment.model
    return _place(model, segment.source_site), _place(model, segment.target_site)


def _place(model: Model, site: str) -> Place | None:
    if site in (LOGIT_SITE, resolve_hook_name(model, LOGIT_SITE)):
        return "final", int(model.cfg.n_layers)
    layer = layer_of_hook(site)
    if layer is None:
        return None
    for end, (kind, more) in _SITES.items():
        name = f"blocks.{layer}.{end}"
        if has_hook(model, name) and resolve_hook_name(model, name) == site:
            return kind, layer + more
    return None


def _norm(segment: Segment, name: str, read: Tensor, seen: Mapping[str, Tensor]) -> NormSlope:
    """The norm of that name, which reads `read`."""
    module: Any = segment.model
    for step in name.split("."):
        module = module[int(step)] if step.isdigit() else getattr(module, step)
    centred = "LN" in str(segment.model.cfg.normalization_type)
    x, scale = read[0].detach(), seen[f"{name}.hook_scale"][0].detach()
    if scale.shape != (len(x), 1):
        raise _UnknownBlockError
    x = x - x.mean(-1, keepdim=True) if centred else x
    weight = getattr(module, "w", None)
    return NormSlope(
        scale=scale,
        normalised=x / scale,
        weight=weight.detach() if isinstance(weight, Tensor) else None,
        centred=centred,
        frozen=_is_frozen(segment, f"{name}.hook_scale"),
    )


def _mlp(segment: Segment, layer: int, seen: Mapping[str, Tensor]) -> MlpSlope:
    module, start = segment.model.blocks[layer].mlp, f"blocks.{layer}"
    pre, post = (seen[f"{start}.mlp.{end}"] for end in ("hook_pre", "hook_post"))
    if post.shape != pre.shape:
        raise _UnknownBlockError
    width, d_model = pre.shape[-1], int(segment.model.cfg.d_model)
    (slopes,) = torch.autograd.grad(post.sum(), pre, retain_graph=True, allow_unused=True)
    if slopes is None:
        raise _UnknownBlockError
    return MlpSlope(
        norm=_norm(segment, f"{start}.ln2", seen[f"{start}.hook_resid_mid"], seen),
        slopes=slopes[0].detach(),
        w_in=_weight(module, "W_in", d_model, width),
        w_out=_weight(module, "W_out", width, d_model),
    )


def _attention(segment: Segment, layer: int, seen: Mapping[str, Tensor]) -> AttentionSlope:
    cfg, start = segment.model.cfg, f"blocks.{layer}"
    module = segment.model.blocks[layer].attn
    q, k, v, z = (seen[f"{start}.attn.hook_{part}"].detach() for part in "qkvz")
    heads = (cfg.n_heads, cfg.d_model, cfg.d_head)
    if any(part.shape[2:] != (cfg.n_heads, cfg.d_head) for part in (q, k, v, z)):
        raise _UnknownBlockError
    divisor = float(getattr(cfg, "attn_scale", 0) or 0)
    divisor = divisor if divisor > 0 else math.sqrt(cfg.d_head)
    divisor = divisor if getattr(cfg, "use_attn_scale", True) else 1.0
    q, k, v, z = (part[0].transpose(0, 1).contiguous() for part in (q / divisor, k / divisor, v, z))
    return AttentionSlope(
        norm=_norm(segment, f"{start}.ln1", seen[f"{start}.hook_resid_pre"], seen),
        pattern=seen[f"{start}.attn.hook_pattern"][0].detach(),
        q=q,
        k=k,
        v=v,
        z=z,
        w_qkv=torch.stack([_weight(module, f"W_{part}", *heads).transpose(1, 2) for part in "QKV"]),
        w_o=_output_weights(segment.model, layer),
        frozen=_is_frozen(segment, f"{start}.attn.hook_pattern"),
    )


def _output_weights(model: Model, layer: int) -> Tensor:
    cfg = model.cfg
    return _weight(model.blocks[layer].attn, "W_O", cfg.n_heads, cfg.d_head, cfg.d_model)


def _weight(module: Any, name: str, *shape: int) -> Tensor:
    """A weight of a part of a block; `_UnknownBlockError` unless it is there in that shape."""
    found = getattr(module, name, None)
    if not isinstance(found, Tensor) or found.shape != shape:
        raise _UnknownBlockError
    return found.detach()


def _is_frozen(segment: Segment, name: str) -> bool:
    model = segment.model
    held = {resolve_hook_name(model, site) for site in segment.frozen}
    return resolve_hook_name(model, name) in held
