"""Vectors in the place of the placeholder's residual stream: which, and how they get there."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.models import HookFunction, Model, cache_sites, hooks_at
from core.patch_scoping.prompt import ScopePrompt
from core.saes.writes import residual_directions


@dataclass(frozen=True)
class Injection:
    """One prompt and what is put in it."""

    prompt: ScopePrompt
    """Where."""
    layer: int = 0
    """The residual stream before this layer is replaced."""
    vector: Float[Tensor, " d_model"] | None = None
    """What replaces it at every position of the placeholder; None leaves the prompt as it is."""

    def check(self, model: Model) -> None:
        """Raise ValueError unless the model has that layer and width."""
        if self.vector is None:
            return
        check_layer(model, self.layer)
        if tuple(self.vector.shape) != (model.cfg.d_model,):
            raise ValueError(
                f"A vector of shape {list(self.vector.shape)} does not fit the residual stream of "
                f"width {model.cfg.d_model}."
            )


def check_layer(model: Model, layer: int) -> None:
    """Raise ValueError unless the residual stream before `layer` can be replaced."""
    if not 0 <= layer < model.cfg.n_layers:
        raise ValueError(
            f"replacement_layer is {layer}; the model has layers 0 to {model.cfg.n_layers - 1}."
        )


@contextmanager
def injecting(model: Model, injections: Sequence[Injection]) -> Iterator[None]:
    """While the block runs, row i of a batch of prompts reads the vector of `injections[i]`.

    The vectors keep their gradients.
    """
    layers: dict[int, list[int]] = defaultdict(list)
    for row, injection in enumerate(injections):
        if injection.vector is not None and injection.prompt.positions:
            layers[injection.layer].append(row)

    def put(rows: list[int]) -> HookFunction:
        places = [(row, place) for row in rows for place in injections[row].prompt.positions]
        row_of, place_of = (torch.tensor(column) for column in zip(*places, strict=True))
        vectors = torch.stack([injections[row].vector for row, _ in places])  # type: ignore[misc]

        def hook_function(activations: Tensor, hook: Any) -> Tensor:
            changed = activations.clone()
            changed[row_of, place_of] = vectors.to(changed)
            return changed

        return hook_function

    hooks = [(f"blocks.{layer}.hook_resid_pre", put(rows)) for layer, rows in layers.items()]
    with hooks_at(model, hooks):
        yield


def rows_at_once(model: Model, n_prompt: int, n_total: int, budget_bytes: int) -> int:
    """Rows whose logits over the prompt and KV cache fit `budget_bytes`; at least one."""
    if budget_bytes < 1:
        raise ValueError(f"The memory budget is {budget_bytes} bytes; give a positive number.")
    cfg: Any = model.cfg
    size = torch.finfo(cfg.dtype).bits // 8
    logits = n_prompt * int(cfg.d_vocab) * max(size, 4)
    heads = int(getattr(cfg, "n_key_value_heads", None) or cfg.n_heads)
    kept = 2 * n_total * int(cfg.n_layers) * heads * int(cfg.d_head) * size
    # The unembedding's input and output, and a block's activations, exist beside these.
    work = n_prompt * int(cfg.d_model) * 24 * size
    return max(1, budget_bytes // (logits + kept + work))


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
