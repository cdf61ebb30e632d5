"""All scales, latents, layers and prompts at once: texts, measures and the best scales."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.jobs.progress import Progress
from core.models import Model
from core.patch_scoping.choice import By, choose
from core.patch_scoping.diagnostics import (
    DEFAULT_MEMORY_BUDGET,
    Diagnostics,
    default_diagnostic_layer,
    diagnose,
)
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import (
    Injection,
    random_directions,
    typical_norm,
    unit_directions,
)
from core.patch_scoping.null_distribution import (
    DEFAULT_CONTROLS,
    Name,
    NullComparison,
    compare_with_null,
    fewest_controls,
)
from core.patch_scoping.prompt import ScopePrompt
from core.patch_scoping.sampling import Sampling
from core.patch_scoping.scale_ranking import SIMILARITY_WEIGHT, rank_scales

_JUDGED_LAYERS, _JUDGED_SCALES = 3, 8
DEFAULT_MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Scales in multiples of the residual norm around the placeholder."""

T = TypeVar("T")


@dataclass(frozen=True)
class SweepConfig:
    """What is swept over, and how texts are made."""

    layers: tuple[int, ...] = (1,)
    """Layers before which the residual stream is replaced."""
    scales: tuple[float, ...] | None = None
    """Norms of the injected vector; None for `multiples` of the typical norm there."""
    multiples: tuple[float, ...] = DEFAULT_MULTIPLES
    """Used where `scales` is None."""
    diagnostic_layer: int | None = None
    """Where self-similarity is read; None for `default_diagnostic_layer`."""
    max_new_tokens: int = 50
    """Longest text, in tokens."""
    stop: str | None = '"'
    """Ends a text where it first appears."""
    sampling: Sampling = field(default_factory=Sampling)
    """Greedy unless said otherwise."""
    keep: int = 3
    """Scales marked as best for each latent, layer and prompt."""
    similarity_weight: float = SIMILARITY_WEIGHT
    """Weight of self-similarity against cross-entropy in the ranking."""
    n_controls: int = DEFAULT_CONTROLS
    """Random directions that a latent must stand out from; 0 leaves the verdict out."""
    seed: int = 0
    """Of the random directions."""
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET
    """Bytes that the logits and the KV cache of one batch may take."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("There are no layers to sweep over; give one or more.")
        chosen = self.multiples if self.scales is None else self.scales
        if not chosen or not np.isfinite(chosen).all():
            raise ValueError(f"The scales are {chosen}; give one or more finite numbers.")
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}; keep 1 or more scales.")
        if self.n_controls and self.n_controls < fewest_controls():
            raise ValueError(
                f"n_controls is {self.n_controls}; use {fewest_controls()} or more, or 0 for none."
            )

    @property
    def for_controls(self) -> "SweepConfig":
        """What random directions are swept over: of many layers or scales, some at even steps.

        One text a scale: the first sample is all that counts there.
        """
        return replace(
            self,
            layers=_spaced(tuple(dict.fromkeys(self.layers)), _JUDGED_LAYERS),
            scales=None if self.scales is None else _spaced(self.scales, _JUDGED_SCALES),
            multiples=_spaced(self.multiples, _JUDGED_SCALES),
            sampling=replace(self.sampling, n_samples=1),
            n_controls=0,
        )

    def scales_at(self, norm: float) -> tuple[float, ...]:
        """Norms of the injected vector where the residual stream's typical norm is `norm`."""
        return self.scales or tuple(norm * multiple for multiple in self.multiples)


@dataclass(frozen=True)
class Sweep:
    """What came out of a sweep."""

    table: pd.DataFrame
    """A row a text: latent, prompt, layer, scale, multiple (of the typical norm), sample, answer,
    text, ended_by, n_tokens, mean_log_prob, self_similarity, resting, entropy, cross_entropy,
    score, rank, best."""
    against_null: dict[tuple[Name, str], NullComparison]
    """By latent and prompt: does it stand out from random directions?"""

    def best(self, *, by: By = "combined") -> pd.DataFrame:
        """One text for each latent, prompt and layer, a row each; see `choose`."""
        return choose(self.table, by)


def sweep(
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    prompts: Mapping[str, ScopePrompt],
    config: SweepConfig | None = None,
    *,
    controls: pd.DataFrame | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Let the model explain each of `latents` at every scale, layer and prompt.

    `controls` is what `random_sweep` gave for these prompts: the same for all latents. It is made
    where it is missing and `config.n_controls` wants it.

    Raises:
        ValueError: no latents or prompts; else as `unit_directions`, `diagnose` and `complete`.
    """
    if not latents:
        raise ValueError("There are no latents to explain; give one or more.")
    directions = unit_directions(model, sae, latents)
    return sweep_directions(
        model, list(latents), directions, prompts, config, controls=controls, progress=progress
    )


def sweep_directions(
    model: Model,
    names: Sequence[Name],
    directions: Float[Tensor, "n d_model"],
    prompts: Mapping[str, ScopePrompt],
    config: SweepConfig | None = None,
    *,
    controls: pd.DataFrame | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """As `sweep`, for any unit directions under any names."""
    config = config or SweepConfig()
    if not prompts:
        raise ValueError("There are no prompts; give one or more.")
    parts: list[pd.DataFrame] = []
    injections: list[Injection] = []
    for title, prompt in prompts.items():
        for layer in dict.fromkeys(config.layers):
            norm = typical_norm(model, prompt, layer)
            scales = config.scales_at(norm)
            found = _measure(model, prompt, directions, scales, layer, config, progress)
            parts.append(_measures(found, names, title, layer, norm))
            for direction in directions:
                injections += [Injection(prompt, layer, direction * scale) for scale in scales]
    texts = complete(
        model,
        injections,
        max_new_tokens=config.max_new_tokens,
        stop=config.stop,
        sampling=config.sampling,
        memory_budget_bytes=config.memory_budget_bytes,
        progress=progress,
    )
    written = [
        {
            "sample": number,
            "answer": one.answer,
            "text": one.text,
            "ended_by": one.ended_by,
            "n_tokens": len(one.tokens),
            "mean_log_prob": one.mean_log_prob,
        }
        for samples in texts
        for number, one in enumerate(samples)
    ]
    measures = pd.concat(parts, ignore_index=True)
    repeated = measures.loc[measures.index.repeat(config.sampling.n_samples)]
    table = pd.concat([repeated.reset_index(drop=True), pd.DataFrame(written)], axis=1)
    ranked = rank_scales(
        table,
        by=("latent", "prompt", "layer"),
        keep=config.keep,
        similarity_weight=config.similarity_weight,
    )
    if not config.n_controls:
        return Sweep(ranked, {})
    if controls is None:
        controls = random_sweep(model, prompts, config, progress=progress)
    against_null = {
        (latent, title): one
        for title in prompts
        for latent, one in compare_with_null(
            ranked[ranked["prompt"] == title], controls[controls["prompt"] == title]
        ).items()
    }
    return Sweep(ranked, against_null)


def random_sweep(
    model: Model,
    prompts: Mapping[str, ScopePrompt],
    config: SweepConfig,
    *,
    span: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The sweep of the random directions that latents must stand out from; `span` of them only.

    Layers and scales are those of `config.for_controls`; latents are numbers from 0.
    """
    drawn = random_directions(model, config.n_controls, seed=config.seed)
    first, last = span or (0, len(drawn))
    names = list(range(first, min(last, len(drawn))))
    fewer = config.for_controls
    return sweep_directions(
        model, names, drawn[first:last], prompts, fewer, progress=progress
    ).table


def _measure(
    model: Model,
    prompt: ScopePrompt,
    directions: Float[Tensor, "n d_model"],
    scales: Sequence[float],
    layer: int,
    config: SweepConfig,
    progress: Progress | None,
) -> Diagnostics:
    reached = config.diagnostic_layer
    if reached is None:
        reached = default_diagnostic_layer(model, layer)
    return diagnose(
        model,
        prompt,
        directions,
        scales,
        replacement_layer=layer,
        diagnostic_layer=reached,
        memory_budget_bytes=config.memory_budget_bytes,
        progress=progress,
    )


def _measures(
    found: Diagnostics, names: Sequence[Name], title: str, layer: int, norm: float
) -> pd.DataFrame:
    n, m = found.self_similarity.shape
    return pd.DataFrame(
        {
            "latent": [name for name in names for _ in range(m)],
            "prompt": title,
            "layer": layer,
            "scale": np.tile(found.scales, n),
            "multiple": np.tile(found.scales, n) / norm,
            "self_similarity": found.self_similarity.ravel(),
            "resting": np.repeat(found.resting, m),
            "entropy": found.entropy.ravel(),
            "cross_entropy": found.cross_entropy.ravel(),
        }
    )


def _spaced(values: tuple[T, ...], most: int) -> tuple[T, ...]:
    """At most so many of the values, at even steps, the first and the last among them."""
    if len(values) <= most:
        return values
    steps = np.linspace(0, len(values) - 1, most).round().astype(int)
    return tuple(values[step] for step in steps)
