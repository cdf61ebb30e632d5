"""How does what stands at a site reach the residual stream? Exactly known, or refused.

What a layer adds to the stream is its output weights times what stands before them, then whatever
the model does before the sum: Gemma 2 and 3 and OLMo 2 normalise it (by its root mean square, with
a gain), Granite multiplies it. Which of these a model does is not left to its name: the derivative
of the stream with respect to the site, taken by autograd on a short text, has to agree.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.models.hooks import Model, has_hook, hooks_at, layer_of_hook, resolve_hook_name

_ON_THE_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
_LAYER_SITES = {
    "hook_attn_out": ("attn", False),
    "attn.hook_out": ("attn", False),
    "attn.hook_z": ("attn", True),
    "hook_mlp_out": ("mlp", False),
    "mlp.hook_out": ("mlp", False),
    # Last, as a bridge gives this name to the output of a mixture of experts.
    "mlp.hook_post": ("mlp", True),
}
"""Part of the layer that adds what stands there, and whether its output weights come first."""
_NORMS = {"attn": ("ln1_post", "ln1", "ln2"), "mlp": ("ln2_post", "ln2")}
"""Where a norm behind that part may be found, under the names of both model classes."""
_NOT_ADDED = {
    "mlp.hook_pre": "they pass the nonlinearity of the MLP first",
    "mlp.hook_pre_linear": "they are multiplied by the gate of the MLP first",
    "hook_normalized": "a norm gives them to what reads the stream",
    "hook_mlp_in": "the MLP reads them",
    "mlp.hook_in": "the MLP reads them",
    "hook_attn_in": "the attention layer reads them",
    "attn.hook_in": "the attention layer reads them",
    "hook_q": "queries only decide where heads look",
    "hook_k": "keys only decide where heads look",
    "hook_v": "heads mix values of several positions first",
    "hook_q_input": "queries are made of them",
    "hook_k_input": "keys are made of them",
    "hook_v_input": "values are made of them",
}
"""Ends of sites that are not added to the stream, and why."""
_SURE, _COARSE = 1e-3, 0.05
"""Largest deviation from autograd, relative; the second in half precision."""

# Of each model, by site: name of the norm behind it and what the sum is multiplied by.
_MEASURED: WeakKeyDictionary[Model, dict[str, tuple[str | None, float]]] = WeakKeyDictionary()


class _ReachedError(Exception):
    """Ends a run once the stream was read."""


@dataclass(frozen=True, eq=False)
class NormBehind:
    """A norm by the root mean square between a layer's output and the stream."""

    module: nn.Module
    """The norm itself."""
    gain: Float[Tensor, " d_model"]
    """What it multiplies each number by, besides its division."""

    def scale(self, before: Float[Tensor, "n d_model"]) -> Float[Tensor, "n 1"]:
        """What it divides each row by."""
        weighted = before * self.gain.to(before)
        after = self.module(before[None].to(self.gain.dtype))[0].to(before)
        length = (weighted * after).sum(-1, keepdim=True)
        # Where nothing stands nothing is divided.
        return torch.where(length > 0, weighted.square().sum(-1, keepdim=True) / length, 1.0)


@dataclass(frozen=True, eq=False)
class StreamPath:
    """From the numbers at a site (heads flattened) to what is added to the residual stream."""

    weights: Float[Tensor, "d_site d_model"] | None = None
    """Output weights; None where the site holds a vector of the stream."""
    bias: Float[Tensor, " d_model"] | None = None
    """What the layer adds to that; None for nothing."""
    norm: NormBehind | None = None
    """The norm that follows; None for none."""
    factor: float = 1.0
    """What the sum is multiplied by in the end."""

    def directions(self, rows: Float[Tensor, "n d_site"]) -> Float[Tensor, "n d_model"]:
        """What `rows` at the site add to the stream; a norm's gain is in it, its division is not.

        Exact where no norm follows. Float32 at least, on the model's device, unless nothing
        happens on the way.
        """
        out = self._weighted(rows)
        return out if self.norm is None else out * self.norm.gain.to(out)

    def directions_at(
        self, rows: Float[Tensor, "n d_site"], there: Float[Tensor, "n d_site"]
    ) -> Float[Tensor, "n d_model"]:
        """Derivative of what is added along `rows[i]`, where `there[i]` stands at the site."""
        out = self._weighted(rows)
        if self.norm is None:
            return out
        before = self._before(there)
        scale = self.norm.scale(before)
        along = (out * before).mean(-1, keepdim=True) / scale.square()
        return (out - before * along) * self.norm.gain.to(out) / scale

    def held(self, there: Float[Tensor, "n d_site"]) -> Float[Tensor, "n d_model"]:
        """What each number that the output weights and bias give is multiplied by, where `there[i]`
        stands: with it, what is added is linear in the site, and equal to what the model adds."""
        if self.norm is None:
            width = there.shape[-1] if self.weights is None else self.weights.shape[1]
            return there.new_full((len(there), width), self.factor)
        before = self._before(there)
        return self.norm.gain.to(before) * self.factor / self.norm.scale(before)

    def pulled(
        self, read: Float[Tensor, " d_model"], there: Float[Tensor, " d_site"]
    ) -> Float[Tensor, " d_site"]:
        """Derivative of `read` times what is added, where `there` stands at the site."""
        back = read
        if self.norm is not None:
            before = self._before(there[None])
            scale = self.norm.scale(before)[0]
            back = read * self.norm.gain.to(read) / scale
            back = back - before[0] * (back * before[0]).mean() / scale.square()
        if self.weights is not None:
            back = self.weights.to(back) @ back
        return back * self.factor

    def _weighted(self, rows: Tensor) -> Tensor:
        out = rows
        if self.weights is not None:
            wide = torch.promote_types(self.weights.dtype, rows.dtype)
            wide = torch.promote_types(wide, torch.float32)
            out = rows.to(self.weights.device, wide) @ self.weights.to(wide)
        elif self.norm is not None:
            out = rows.to(self.norm.gain.device)
        return out if self.factor == 1 else out * self.factor

    def _before(self, there: Tensor) -> Tensor:
        """What the norm reads."""
        out = replace(self, factor=1.0)._weighted(there)
        return out if self.bias is None else out + self.bias.to(out)


def path_to_stream(model: Model, site: str, width: int) -> StreamPath:
    """How the `width` numbers at a site reach the residual stream.

    The first time that a model is asked of a layer's site, it runs three tokens up to that layer.

    Raises:
        ValueError: a site that does not exist or is not added to the stream, that holds another
            number of numbers, or whose way to the stream is not known.
    """
    path, layer, part = _plain_path(model, site, width)
    expected = int(model.cfg.d_model) if path.weights is None else len(path.weights)
    if width != expected:
        raise ValueError(
            f"{site} holds {width} numbers for the SAE and {expected} in the model; choose an SAE "
            "of this model."
        )
    if part is None:
        return path
    name, factor = _measure(model, site, path, layer, part)
    return replace(_behind_norm(model, path, layer, name), factor=factor)


def _plain_path(model: Model, site: str, width: int) -> tuple[StreamPath, int, str | None]:
    """Output weights on the way, the layer, and the part of it that adds; None for the stream."""
    own = resolve_hook_name(model, site)
    layer = layer_of_hook(site)
    if layer is None:
        if site in ("hook_embed", "embed.hook_out"):
            return StreamPath(), 0, "embed"
        raise _refusal(site, width)
    if own in _own_names(model, layer, _ON_THE_STREAM):
        return StreamPath(), layer, None
    for end, (part, is_inside) in _LAYER_SITES.items():
        if own not in _own_names(model, layer, (end,)):
            continue
        weights, bias = _output(model, layer, part) if is_inside else (None, None)
        if is_inside and weights is None:
            raise _refusal(site, width, "the output weights behind them are not known")
        return StreamPath(weights, bias), layer, part
    raise _refusal(site, width)


def _own_names(model: Model, layer: int, ends: tuple[str, ...]) -> Iterator[str]:
    for end in ends:
        name = f"blocks.{layer}.{end}"
        if has_hook(model, name):
            yield resolve_hook_name(model, name)


def _output(model: Model, layer: int, part: str) -> tuple[Tensor | None, Tensor | None]:
    """Output weights, heads flattened, and bias; None where there are none."""
    module: Any = getattr(model.blocks[layer], part, None)
    names = ("W_O", "b_O") if part == "attn" else ("W_out", "b_out")
    weights, bias = (getattr(module, name, None) for name in names)
    if not isinstance(weights, Tensor) or weights.dim() != (3 if part == "attn" else 2):
        return None, None
    weights = weights.detach().flatten(0, -2)
    return weights, bias.detach() if isinstance(bias, Tensor) else None


def _behind_norm(model: Model, path: StreamPath, layer: int, name: str | None) -> StreamPath:
    """The path with the layer's norm of that name behind it."""
    if name is None:
        return path
    module = getattr(model.blocks[layer], name)
    # A constant is divided by itself, so this is the gain however the class keeps its weight.
    constant = torch.full((1, 1, int(model.cfg.d_model)), 32.0).to(next(model.parameters()))
    with torch.no_grad():
        return replace(path, norm=NormBehind(module, module(constant)[0, 0].detach()))


def _measure(
    model: Model, site: str, path: StreamPath, layer: int, part: str
) -> tuple[str | None, float]:
    """Name of the norm behind the site, and the factor, by which autograd and the path agree."""
    known = _MEASURED.setdefault(model, {})
    if site in known:
        return known[site]
    there, slope, read = _probe(model, site, layer, part)
    tolerance = _COARSE if model.cfg.dtype in (torch.float16, torch.bfloat16) else _SURE
    block = model.blocks[layer]
    norms = [
        norm for norm in _NORMS.get(part, ()) if isinstance(getattr(block, norm, None), nn.Module)
    ]
    for name in (None, *norms):
        with torch.no_grad():
            expected = _behind_norm(model, path, layer, name).pulled(read, there)
        factor = float((expected @ slope) / expected.square().sum())
        if (slope - factor * expected).norm() <= tolerance * slope.norm():
            known[site] = name, 1.0 if abs(factor - 1) <= tolerance else factor
            return known[site]
    raise _refusal(
        site,
        len(there),
        "this model changes them on the way in a manner that is not known here, beyond output "
        "weights, a norm by the root mean square and a multiplier",
    )


def _probe(model: Model, site: str, layer: int, part: str) -> tuple[Tensor, Tensor, Tensor]:
    """What stands at the site at the last of three tokens (flattened), the derivative with respect
    to it of one reading of the stream that it is added to, and that reading's direction."""
    after = f"blocks.{layer}.hook_resid_post"
    if part == "embed":
        after = "blocks.0.hook_resid_pre"
    elif part == "attn" and has_hook(model, f"blocks.{layer}.hook_resid_mid"):
        # In a parallel block nothing reads what attention adds before the end of the block.
        after = f"blocks.{layer}.hook_resid_mid"
    seen: dict[str, Tensor] = {}

    def put(activations: Tensor, hook: Any) -> Tensor:
        # A bridge of a model with a multiplier goes past what it is given back unchanged.
        seen["site"] = (1.01 * activations.detach()).requires_grad_(True)
        return seen["site"]

    def read(activations: Tensor, hook: Any) -> None:
        seen["after"] = activations
        raise _ReachedError

    device = next(model.parameters()).device
    tokens = torch.arange(3, device=device)[None] + min(5, int(model.cfg.d_vocab) - 3)
    with torch.inference_mode(False), torch.enable_grad():
        with hooks_at(model, [(site, put), (after, read)]), suppress(_ReachedError):
            model(tokens, return_type=None)
        if len(seen) == 2 and seen["after"].requires_grad:
            stream = seen["after"][0, -1].float()
            generator = torch.Generator().manual_seed(0)
            direction = torch.randn(len(stream), generator=generator).to(stream)
            (slope,) = torch.autograd.grad((stream * direction).sum(), seen["site"])
            there = seen["site"][0, -1].detach().flatten().float()
            return there, slope[0, -1].flatten().float(), direction
    raise _refusal(site, int(model.cfg.d_model), "nothing of them arrives there")


def _refusal(site: str, width: int, reason: str | None = None) -> ValueError:
    if reason is None:
        ends = [end for end in _NOT_ADDED if site.endswith(end)]
        reason = _NOT_ADDED[max(ends, key=len)] if ends else None
    return ValueError(
        f"{site} holds {width} numbers that are not added to the residual stream as they are"
        f"{'' if reason is None else f': {reason}'}. So its latents do not map to tokens; choose "
        "an SAE of the residual stream, of an attention or MLP output, of hook_z or of "
        "mlp.hook_post."
    )
