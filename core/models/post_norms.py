"""The norm between a layer's output and the residual stream, where a model has one.

Gemma 2 and 3 and OLMo 2 normalise what attention and MLP give before it is added to the stream.
`hook_attn_out` and `hook_mlp_out` hold what is added, after that norm, in both model classes.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.models.hooks import Model

_ATTRIBUTES = {"attn": "ln1_post", "mlp": "ln2_post"}
_SITES = {"attn": "hook_attn_out", "mlp": "hook_mlp_out"}


def norm_after(model: Model, layer: int, part: str) -> nn.Module | None:
    """The norm that follows `part` ("attn" or "mlp") of a layer; None where there is none."""
    block: Any = model.blocks[layer]
    aliases = getattr(block, "hook_aliases", None)
    target = aliases.get(_SITES[part]) if isinstance(aliases, dict) else None
    if isinstance(target, str):
        # A bridge says where that site is: behind the layer itself, or behind a norm.
        owner = target.rpartition(".")[0]
        return None if owner in (part, "") else _submodule(block, owner)
    return _submodule(block, _ATTRIBUTES[part])


@torch.no_grad()
def gain_after(model: Model, layer: int, part: str) -> Float[Tensor, " d_model"] | None:
    """What that norm multiplies each number by, its division left out; None without a norm.

    Read off an input of ones, which a root-mean-square norm divides by 1, so that whatever form
    the class keeps its weight in does not matter.
    """
    norm = norm_after(model, layer, part)
    if norm is None:
        return None
    weight = next(model.parameters())
    ones = torch.ones(1, 1, int(model.cfg.d_model), device=weight.device, dtype=weight.dtype)
    return norm(ones)[0, 0].detach()


@torch.no_grad()
def scale_held(
    model: Model, layer: int, part: str, before: Float[Tensor, " d_model"]
) -> Float[Tensor, " d_model"] | None:
    """What the norm after a layer multiplies each number by when that gives `before`.

    The division is that of `before` itself, held as attention patterns are. None without a norm.

    Raises ValueError for a norm that does more than multiply.
    """
    norm = norm_after(model, layer, part)
    if norm is None:
        return None
    weight = next(model.parameters())
    after = norm(before[None, None].to(weight))[0, 0].to(before)
    gain = gain_after(model, layer, part)
    assert gain is not None
    plain = before * gain.to(before)
    factor = (after @ plain) / plain.square().sum().clamp_min(torch.finfo(plain.dtype).tiny)
    if (after - factor * plain).norm() > 1e-3 * after.norm():
        raise ValueError(
            f"The norm after the {'attention' if part == 'attn' else 'MLP'} of layer {layer} does "
            "more than multiply each number, so what it lets through is not a sum over sources."
        )
    return factor * gain.to(before)


def _submodule(block: nn.Module, name: str) -> nn.Module | None:
    found: Any = block
    for step in name.split("."):
        found = getattr(found, step, None)
    return found if isinstance(found, nn.Module) and not isinstance(found, nn.Identity) else None
