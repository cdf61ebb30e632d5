"""Run a model and read or write its sites, in the same words for both model classes.

A *site* is a hook of the model, named as transformer_lens names it ("blocks.3.hook_resid_pre",
"blocks.3.attn.hook_z"). SAEs are never attached to the model here: after an SAE was attached to a
`SAETransformerBridge` and removed, the library calls every later hook at that site twice (once
for each of the site's two names). Hooks are therefore put on the `HookPoint` itself, which calls
them once whatever was attached before, and exactly the ones added are removed again.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

Model = HookedTransformer | TransformerBridge
"""What every analysis accepts: `HookedSAETransformer` and `SAETransformerBridge` are subclasses."""

HookFunction = Callable[..., Any]
"""Called as `hook_function(activations, hook=hook_point)`; a tensor returned replaces them."""

_LAYER = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")
_GATES = {
    "attn.hook_result": "use_attn_result",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_mlp_in": "use_hook_mlp_in",
    "hook_attn_in": "use_attn_in",
}
"""Sites that exist but only fire once their flag is set on the model."""


class _AllSitesSeen(Exception):
    """Ends a forward pass as soon as there is nothing left to read."""


def layer_of_hook(hook_name: str) -> int | None:
    """Layer of the block that `hook_name` belongs to; None outside the blocks ("hook_embed")."""
    match = _LAYER.search(hook_name)
    return int(match.group(1)) if match else None


def has_hook(model: Model, hook_name: str) -> bool:
    """Whether the model has a site of that name (or alias)."""
    return isinstance(model.hook_dict.get(hook_name), HookPoint)


def resolve_hook_name(model: Model, hook_name: str) -> str:
    """The model's own name of the site: on a bridge `blocks.0.hook_resid_pre` is an alias.

    Raises ValueError, naming the closest sites that do exist, when there is none of that name.
    """
    return _find(model, hook_name)[0]


def site_shape(model: Model, hook_name: str) -> tuple[int, ...]:
    """Shape of one position's activations there: (d_model,), or (n_heads, d_head) at `hook_z`.

    Measured on a short run. Raises ValueError where activations are not `[batch, pos, ...]`
    (attention patterns and scores).
    """
    probe = torch.zeros(1, min(5, context_length(model)), dtype=torch.long, device=_device(model))
    activations = cache_sites(model, probe, [hook_name])[hook_name]
    if hook_name.endswith(("hook_pattern", "hook_attn_scores")) or activations.dim() < 3:
        raise ValueError(
            f"{hook_name} holds {list(activations.shape)} rather than one vector a position; "
            "choose a site on the residual stream, an MLP or hook_z."
        )
    return tuple(activations.shape[2:])


def hook_width(model: Model, hook_name: str) -> int:
    """Numbers a position has at that site (heads flattened): the d_in of an SAE that reads it."""
    return math.prod(site_shape(model, hook_name))


def context_length(model: Model) -> int:
    """Most tokens, BOS included, that the model takes at once."""
    return int(model.cfg.n_ctx)


@contextmanager
def hooks_at(
    model: Model,
    hooks: Iterable[tuple[str, HookFunction]],
    *,
    direction: Literal["fwd", "bwd"] = "fwd",
) -> Iterator[None]:
    """Put each `(hook_name, hook_function)` on its site while the block runs.

    Each function is called exactly once whenever the site fires, also during `model.generate`.
    Exactly these hooks are removed afterwards, in `finally`; hooks of the caller stay.
    Raises ValueError for a site that does not exist or would never fire.
    """
    added: list[tuple[HookPoint, Any]] = []
    try:
        for hook_name, hook_function in hooks:
            point = _find(model, hook_name)[1]
            _check_fires(model, hook_name)
            point.add_hook(hook_function, dir=direction)
            handles = point.fwd_hooks if direction == "fwd" else point.bwd_hooks
            added.append((point, handles[-1]))
        yield
    finally:
        for point, handle in added:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]
            point.bwd_hooks = [other for other in point.bwd_hooks if other is not handle]


def check_tokens(model: Model, tokens: Int[Tensor, "batch pos"]) -> None:
    """Raises ValueError for a token without an embedding, such as one added to the tokenizer."""
    most, n = int(tokens.max()) if tokens.numel() else 0, int(model.cfg.d_vocab)
    if most >= n:
        tokenizer: Any = model.tokenizer
        name = None if tokenizer is None else tokenizer.convert_ids_to_tokens(most)
        raise ValueError(
            f"The text has token {most} ({name!r}), and this model has embeddings for {n:,} tokens "
            "only; use the tokenizer that it was trained with, or a text without that token."
        )


def cache_sites(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    hook_names: Sequence[str],
    *,
    stop_at_layer: int | None = None,
) -> dict[str, Float[Tensor, "batch pos ..."]]:
    """Activations `[batch, pos, ...]` of each site, under the name that was asked for.

    Runs without gradients, and no further than the last site asked for. The tensors are copies:
    a hook that writes in place later cannot change them. With `stop_at_layer`, the run ends
    before that layer at the latest. Raises ValueError when a site does not exist or is not
    reached, and as `check_tokens`.
    """
    wanted = list(dict.fromkeys(hook_names))
    cache: dict[str, Tensor] = {}

    def keep(name: str) -> HookFunction:
        def hook_function(activations: Tensor, hook: Any) -> None:
            cache[name] = activations.detach().clone()
            if len(cache) == len(wanted):
                raise _AllSitesSeen

        return hook_function

    if not wanted:
        return cache
    _check_reached(wanted, stop_at_layer)
    check_tokens(model, tokens)
    hooks = [(name, keep(name)) for name in wanted]
    with torch.no_grad(), hooks_at(model, hooks), suppress(_AllSitesSeen):
        model(tokens, return_type=None, stop_at_layer=stop_at_layer)
    missing = [name for name in wanted if name not in cache]
    if missing:
        raise ValueError(f"The model ran without reaching {', '.join(missing)}; use another site.")
    return {name: cache[name] for name in wanted}


def run_with_replacements(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    replacements: Mapping[str, Tensor | Callable[[Tensor], Tensor]],
    *,
    stop_at_layer: int | None = None,
) -> Float[Tensor, "batch pos d"]:
    """Logits of a run in which each site holds something else.

    A replacement is the new activations (of the site's shape, or flattened heads for it), or a
    function from the site's activations to the new ones, such as an SAE's reconstruction. They
    are cast to the site's dtype and device. Gradients flow if they are enabled. With
    `stop_at_layer` the residual stream before that layer is returned instead of logits.
    """

    def put(replacement: Tensor | Callable[[Tensor], Tensor], name: str) -> HookFunction:
        def hook_function(activations: Tensor, hook: Any) -> Tensor:
            new = replacement if isinstance(replacement, Tensor) else replacement(activations)
            if new.numel() != activations.numel():
                raise ValueError(
                    f"The replacement at {name} has shape {list(new.shape)}; "
                    f"the site holds {list(activations.shape)}."
                )
            return new.reshape(activations.shape).to(activations)

        return hook_function

    _check_reached(replacements, stop_at_layer)
    hooks = [(name, put(replacement, name)) for name, replacement in replacements.items()]
    with hooks_at(model, hooks):
        return _forward(model, tokens, stop_at_layer)


def run_layers(
    model: Model,
    residual: Float[Tensor, "batch pos d_model"],
    *,
    start_at_layer: int,
    stop_at_layer: int | None = None,
) -> Float[Tensor, "batch pos d"]:
    """Continue from the residual stream before layer `start_at_layer`, as if it had been there.

    Returns logits, or the residual stream before `stop_at_layer` (n_layers: after the last).
    Differentiable, also under `torch.func`. A bridge cannot start in the middle (its layer loop
    is Hugging Face's), so there the whole model runs on placeholder tokens and `residual`
    replaces their stream: right, at the price of the layers before.
    """
    n_layers = model.cfg.n_layers
    last = n_layers if stop_at_layer is None else stop_at_layer
    if not 0 <= start_at_layer < n_layers or not start_at_layer <= last <= n_layers:
        raise ValueError(
            f"Cannot run layers {start_at_layer} to {stop_at_layer} of a model with {n_layers}: "
            "use 0 <= start_at_layer < n_layers and start_at_layer <= stop_at_layer <= n_layers."
        )
    if stop_at_layer == start_at_layer:
        return residual
    if isinstance(model, HookedTransformer):
        return model(
            residual,
            start_at_layer=start_at_layer,
            stop_at_layer=stop_at_layer,
            return_type="logits",
        )
    tokens = torch.zeros(residual.shape[:2], dtype=torch.long, device=residual.device)
    site = f"blocks.{start_at_layer}.hook_resid_pre"
    return run_with_replacements(model, tokens, {site: residual}, stop_at_layer=stop_at_layer)


def _forward(model: Model, tokens: Tensor, stop_at_layer: int | None) -> Tensor:
    if isinstance(model, HookedTransformer) or stop_at_layer != model.cfg.n_layers:
        return model(tokens, return_type="logits", stop_at_layer=stop_at_layer)
    # A bridge has no block to stop before here and would return logits.
    seen: list[Tensor] = []
    final = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"

    def keep(activations: Tensor, hook: Any) -> None:
        seen.append(activations)
        raise _AllSitesSeen

    with hooks_at(model, [(final, keep)]), suppress(_AllSitesSeen):
        model(tokens, return_type=None)
    return seen[0]


def _find(model: Model, hook_name: str) -> tuple[str, HookPoint]:
    hooks = model.hook_dict
    point = hooks.get(hook_name)
    if isinstance(point, HookPoint):
        # An alias keeps pointing to a dead point once an SAE was attached: go by its full name.
        live = hooks.get(point.name or "")
        if isinstance(live, HookPoint):
            return str(point.name), live
        if "." not in (point.name or ""):
            # A point that a removed SAE left behind carries a shortened name.
            return next((name, other) for name, other in hooks.items() if other is point)
    attached: Any = getattr(model, "acts_to_saes", {})
    if attached:
        raise ValueError(
            f"There is no free site {hook_name!r}: SAEs are attached to the model at "
            f"{', '.join(attached)}. Call model.reset_saes() first."
        )
    close = difflib.get_close_matches(hook_name, hooks, n=4, cutoff=0.5)
    layer = layer_of_hook(hook_name)
    remedy = f"Close to it: {', '.join(close)}." if close else "See model.hook_dict for all sites."
    if layer is not None and layer >= model.cfg.n_layers:
        remedy = f"The model has layers 0 to {model.cfg.n_layers - 1}."
    raise ValueError(f"The model has no site {hook_name!r}. {remedy}")


def _check_reached(hook_names: Iterable[str], stop_at_layer: int | None) -> None:
    # The classes differ at the very layer: a bridge still fires its hook_resid_pre.
    for name in hook_names:
        if stop_at_layer is not None and (layer_of_hook(name) or 0) >= stop_at_layer:
            raise ValueError(
                f"A run with stop_at_layer={stop_at_layer} does not reach {name}; "
                "stop_at_layer must be larger than the layer of every site."
            )


def _check_fires(model: Model, hook_name: str) -> None:
    for suffix, flag in _GATES.items():
        if hook_name.endswith(suffix) and not getattr(model.cfg, flag, False):
            raise ValueError(
                f"{hook_name} does not fire while {flag} is off; call model.set_{flag}(True) first."
            )


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device
