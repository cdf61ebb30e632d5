"""How does the model react to a vector in the prompt, before it says anything?

For each direction and scale: how much of the direction arrives at the last position of a later
layer (self-similarity), how it changes with the scale, how undecided the model is about its next
token (entropy), and how far its next token is from what it says of an average word (cross-entropy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.jobs.progress import Progress
from core.models import Model, hooks_at
from core.patch_scoping.injection import (
    Injection,
    check_layer,
    injecting,
    mean_embedding,
    rows_at_once,
)
from core.patch_scoping.prompt import ScopePrompt

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that the logits and the graph of one batch may take."""


@dataclass(frozen=True)
class Diagnostics:
    """Measures of n directions at m scales in one prompt and layer."""

    scales: Float[np.ndarray, " m"]
    """Norms of the injected vectors."""
    self_similarity: Float[np.ndarray, "n m"]
    """Cosine of the direction with the last position's residual at the diagnostic layer."""
    resting: Float[np.ndarray, " n"]
    """The same cosine when nothing is injected."""
    entropy: Float[np.ndarray, "n m"]
    """Entropy of the next token, in nats."""
    cross_entropy: Float[np.ndarray, "n m"]
    """-sum p log q in nats, where q is the prediction with the mean embedding injected."""
    first_derivative: Float[np.ndarray, "n m"] | None = None
    """Of the self-similarity, per unit of scale; None when not asked for."""
    second_derivative: Float[np.ndarray, "n m"] | None = None
    """Of the self-similarity, per unit of scale squared; None when not asked for."""


def diagnose(
    model: Model,
    prompt: ScopePrompt,
    directions: Float[Tensor, "n d_model"],
    scales: Sequence[float],
    *,
    replacement_layer: int,
    diagnostic_layer: int,
    derivatives: bool = False,
    base_norm: float = 1.0,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Diagnostics:
    """Measure each of the unit `directions` at each of the `scales`.

    Derivatives are exact: the self-similarity is differentiated twice through the layers between
    the two (its graph is the price). `base_norm` is the norm at which the mean embedding is
    injected. `diagnostic_layer` n_layers means the stream after the last layer.

    Raises:
        ValueError: layers in the wrong order or not there, or no or endless scales.
    """
    check_layers(model, replacement_layer, diagnostic_layer)
    norms = torch.tensor([float(scale) for scale in scales], dtype=torch.float64)
    if not len(norms) or not torch.isfinite(norms).all():
        raise ValueError(f"The scales are {list(scales)}; give one or more finite numbers.")
    run = _Run(model, prompt, replacement_layer, diagnostic_layer)
    base = mean_embedding(model) * base_norm
    _, base_log_probs = run.measure([base])
    rest, _ = run.measure([None])
    n, m = len(directions), len(norms)
    found = torch.zeros(5, n * m, dtype=torch.float64)
    flat_scales = norms.repeat(n)
    at_once = rows_at_once(model, len(prompt.tokens), len(prompt.tokens), memory_budget_bytes)
    if derivatives:
        at_once = min(at_once, _rows_with_graph(model, prompt, run.depth, memory_budget_bytes))
    for start in range(0, n * m, at_once):
        if progress is not None:
            progress.update(start, n * m, unit="scales", message="Measuring")
        rows = slice(start, min(start + at_once, n * m))
        index = torch.arange(rows.start, rows.stop) // m
        chosen = directions[index.to(directions.device)]
        scale = flat_scales[rows].to(chosen).requires_grad_(derivatives)
        with torch.set_grad_enabled(derivatives):
            last, log_probs = run.measure(list(chosen * scale[:, None]), detach_after=derivatives)
            similarity = torch.cosine_similarity(last, chosen.to(last), dim=-1)
            if derivatives:
                (first,) = torch.autograd.grad(similarity.sum(), scale, create_graph=True)
                (second,) = torch.autograd.grad(first.sum(), scale)
                found[3, rows], found[4, rows] = first.detach().cpu(), second.cpu()
        p = log_probs.exp()
        found[0, rows] = similarity.detach().double().cpu()
        found[1, rows] = -torch.special.xlogy(p, p).sum(-1).double().cpu()
        found[2, rows] = -(p * base_log_probs).sum(-1).double().cpu()
    if progress is not None:
        progress.update(n * m, n * m, unit="scales", message="Measuring")
    similarity, entropy, cross_entropy, first, second = found.view(5, n, m).numpy()
    resting = torch.cosine_similarity(rest, directions.to(rest), dim=-1)
    return Diagnostics(
        scales=norms.numpy(),
        self_similarity=similarity,
        resting=resting.double().cpu().numpy(),
        entropy=entropy,
        cross_entropy=cross_entropy,
        first_derivative=first if derivatives else None,
        second_derivative=second if derivatives else None,
    )


def default_diagnostic_layer(model: Model, replacement_layer: int) -> int:
    """Five sixths of the way up (layer 15 of Gemma 2B's 18), but two layers after the replacement.

    One layer is not enough: its attention reads the replaced position through a layer norm, so
    that what reaches the last position does not depend on the scale.
    """
    n_layers = int(model.cfg.n_layers)
    return min(n_layers, max(replacement_layer + 2, round(n_layers * 5 / 6)))


def check_layers(model: Model, replacement_layer: int, diagnostic_layer: int) -> None:
    """Raise ValueError unless the second can see what is replaced at the first."""
    check_layer(model, replacement_layer)
    if not replacement_layer < diagnostic_layer <= model.cfg.n_layers:
        raise ValueError(
            f"diagnostic_layer is {diagnostic_layer}; with replacement_layer {replacement_layer} "
            f"use {replacement_layer + 1} to {model.cfg.n_layers} (after the last layer)."
        )


class _Run:
    """Runs of one prompt, read at its last position."""

    def __init__(
        self, model: Model, prompt: ScopePrompt, replacement_layer: int, diagnostic_layer: int
    ) -> None:
        self.model, self.prompt, self.layer = model, prompt, replacement_layer
        self.depth = diagnostic_layer - replacement_layer
        self.site = (
            f"blocks.{diagnostic_layer}.hook_resid_pre"
            if diagnostic_layer < model.cfg.n_layers
            else f"blocks.{diagnostic_layer - 1}.hook_resid_post"
        )
        self.tokens = torch.tensor([prompt.tokens], device=next(model.parameters()).device)

    def measure(
        self, vectors: Sequence[Tensor | None], *, detach_after: bool = False
    ) -> tuple[Float[Tensor, "rows d_model"], Float[Tensor, "rows vocab"]]:
        """Last position's residual at the diagnostic layer, and next-token log-probabilities."""
        seen: list[Tensor] = []

        def read(activations: Tensor, hook: Any) -> Tensor | None:
            seen.append(activations[:, -1])
            # What comes later is not differentiated: no graph is kept for it.
            return activations.detach() if detach_after else None

        rows = [Injection(self.prompt, self.layer, vector) for vector in vectors]
        for row in rows:
            row.check(self.model)
        grad = torch.is_grad_enabled() and detach_after
        with (
            torch.set_grad_enabled(grad),
            injecting(self.model, rows),
            hooks_at(self.model, [(self.site, read)]),
        ):
            tokens = self.tokens.expand(len(rows), -1)
            logits = self.model(tokens, return_type="logits")[:, -1].detach()
        precise = torch.promote_types(logits.dtype, torch.float32)
        return seen[0].to(precise), logits.to(precise).log_softmax(-1)


def _rows_with_graph(model: Model, prompt: ScopePrompt, depth: int, budget_bytes: int) -> int:
    """Rows whose twice differentiated graph over `depth` layers fits `budget_bytes`."""
    cfg: Any = model.cfg
    n = len(prompt.tokens)
    a_layer = n * (int(cfg.d_model) * 40 + int(cfg.n_heads) * n * 6)
    # The graph of the first derivative is about twice as large as that of the value.
    return max(1, budget_bytes // (a_layer * depth * 4 * 3))
