"""A vector in the place of the placeholder's residual stream, for each row of a batch."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from core.models import HookFunction, Model, hooks_at
from core.patch_scoping.prompt import ScopePrompt


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
