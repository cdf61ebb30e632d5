"""From sources to targets through a model: what Jacobians are taken of and interventions run on."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.gradients.ends import KeepError
from core.gradients.jacobian import (
    DEFAULT_MEMORY_BUDGET,
    Block,
    Entries,
    Mode,
    cheaper_mode,
    jacobian,
    jacobian_blocks,
)
from core.gradients.segment import Segment
from core.jobs.progress import Progress

Kind = Literal["gradient", "attribution"]


class GradientOptions(TypedDict, total=False):
    """Keywords that every gradient function takes."""

    kind: Kind
    """"gradient" (default), or "attribution": gradient times the source's activation."""
    freeze_attention: bool
    """Hold attention patterns at their clean values; by default gradients flow through them."""
    freeze_layer_norm: bool
    """Hold the scales of LayerNorms at their clean values; live by default."""
    keep_error: KeepError
    """Where the earlier SAE's error stays: "nowhere" (default), at the "first" position, or
    "everywhere", which differentiates the model as it is."""
    positions: Sequence[int] | None
    """Keep only latents at these positions; all by default."""
    max_from: int | None
    """Keep only so many sources, those with the strongest activation; all by default."""
    max_to: int | None
    """Keep only so many targets, the strongest; all by default."""
    mode: Mode
    """"reverse", "forward" or "auto" (default): a pass a target, a source, or the cheaper."""
    memory_budget_bytes: int
    """What the passes may take beyond model and result."""
    progress: Progress | None
    """Is told about each batch of passes, and asked whether to stop."""


class Freezing(TypedDict):
    """What is held at its clean value."""

    freeze_attention: bool
    """Attention patterns."""
    freeze_layer_norm: bool
    """Scales of LayerNorms."""


class PassOptions(TypedDict):
    """Keywords of `Route.gradients`."""

    kind: Kind
    """Gradient or attribution."""
    mode: Mode
    """Direction of the passes."""
    memory_budget_bytes: int
    """What the passes may take."""
    progress: Progress | None
    """Is told about them."""


@dataclass(frozen=True)
class Route:
    """Sources at one site of a model, targets at another, and the model in between."""

    segment: Segment
    """The model between the sites."""
    base: Float[Tensor, "batch pos ..."]
    """What stands at the source site: the activations the sources add up to."""
    sources: Entries
    """What each source adds at its position, per unit."""
    source_indices: Int[Tensor, "n_from 3"]
    """Batch, position, latent (or token) of each source."""
    source_values: Float[Tensor, " n_from"]
    """Activation of each source."""
    source_name: str
    """Name of the sources' layer, such as "F3"; "token" for tokens."""
    targets: Entries
    """Derivative of each target with respect to the target site at its position."""
    target_indices: Int[Tensor, "n_to 3"]
    """Batch, position, latent (or token) of each target."""
    target_values: Float[Tensor, " n_to"]
    """Activation (or logit) of each target, given `base`."""
    target_name: str
    """Name of the targets' layer; "logit" for logits."""
    read: Callable[[Float[Tensor, "m ..."], Int[Tensor, " m"]], Float[Tensor, " m"]]
    """What latents (or tokens) come to where the target site holds these activations."""

    def gradients(
        self,
        *,
        kind: Kind = "gradient",
        mode: Mode = "auto",
        memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n_to n_from"]:
        """Derivative of each target with respect to each source, times its activation if asked.

        Entries between different prompts of a batch are zero.
        """
        if kind not in ("gradient", "attribution"):
            raise ValueError(f"Unknown kind {kind!r}; use 'gradient' or 'attribution'.")
        values = jacobian(
            self.segment,
            self.base,
            self.sources,
            self.targets,
            mode=mode,
            memory_budget_bytes=memory_budget_bytes,
            progress=progress,
        )
        if kind == "attribution":
            values *= self.source_values.to(values)
        return values

    def blocks(
        self, *, mode: Mode = "auto", memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET
    ) -> Iterator[Block]:
        """The gradients a batch of passes at a time, for whoever wants to stop in between."""
        return jacobian_blocks(
            self.segment,
            self.base,
            self.sources,
            self.targets,
            mode=mode,
            memory_budget_bytes=memory_budget_bytes,
        )

    def restrict(
        self, *, sources: Int[Tensor, " m"] | None = None, targets: Int[Tensor, " n"] | None = None
    ) -> "Route":
        """Only these sources and targets, by their numbers; `base` still holds all sources."""
        route = self
        if sources is not None:
            route = replace(
                route,
                sources=route.sources[sources],
                source_indices=route.source_indices[sources],
                source_values=route.source_values[sources],
            )
        if targets is not None:
            route = replace(
                route,
                targets=route.targets[targets],
                target_indices=route.target_indices[targets],
                target_values=route.target_values[targets],
            )
        return route


def freezing(options: GradientOptions) -> Freezing:
    """Of the options, what is to be frozen."""
    return Freezing(
        freeze_attention=options.get("freeze_attention", False),
        freeze_layer_norm=options.get("freeze_layer_norm", False),
    )


def pass_options(options: GradientOptions) -> PassOptions:
    """Of the options, those about how the Jacobian is computed."""
    return PassOptions(
        kind=options.get("kind", "gradient"),
        mode=options.get("mode", "auto"),
        memory_budget_bytes=options.get("memory_budget_bytes", DEFAULT_MEMORY_BUDGET),
        progress=options.get("progress"),
    )


def narrowing(
    route: Route, options: GradientOptions, *, of_sources: bool = True
) -> dict[str, Int[Tensor, " m"] | None]:
    """What `Route.restrict` is to keep by these options: None for an axis kept whole."""
    positions = options.get("positions")
    most_from, most_to = options.get("max_from"), options.get("max_to")
    narrowed: dict[str, Tensor | None] = {"sources": None, "targets": None}
    if of_sources and (positions is not None or most_from is not None):
        narrowed["sources"] = strongest(
            route.source_indices, route.source_values, positions=positions, most=most_from
        )
    if positions is not None or most_to is not None:
        narrowed["targets"] = strongest(
            route.target_indices, route.target_values, positions=positions, most=most_to
        )
    return narrowed


def strongest(
    indices: Int[Tensor, "n 3"],
    values: Float[Tensor, " n"],
    *,
    positions: Sequence[int] | None = None,
    most: int | None = None,
) -> Int[Tensor, " m"]:
    """Numbers, ascending, of the entries at `positions`, at most the `most` strongest of them.

    Raises:
        ValueError: a number below 0 or a `most` below 1.
    """
    if most is not None and most < 1:
        raise ValueError(f"Keeping the strongest {most} leaves nothing; ask for 1 or more.")
    if positions is not None and any(position < 0 for position in positions):
        raise ValueError(f"Position {min(positions)} does not exist; positions count from 0.")
    kept = torch.arange(len(indices), device=indices.device)
    if positions is not None:
        wanted = torch.as_tensor(list(positions), device=indices.device, dtype=indices.dtype)
        kept = kept[torch.isin(indices[:, 1], wanted)]
    if most is not None and len(kept) > most:
        order = values[kept].abs().argsort(descending=True, stable=True)
        kept = kept[order[:most]].sort().values
    return kept


class Filling:
    """Gradients of a route that is opened anew for every turn; holds on to no model."""

    def __init__(self, route: Route) -> None:
        """Nothing is computed yet."""
        self.values = torch.zeros(len(route.targets), len(route.sources))
        """What is known so far, [n_to, n_from] in float32 in main memory."""
        self._mode: Mode = cheaper_mode(route.segment, route.sources, route.targets)
        # Rows (columns, where passes go forwards) that no turn has come to.
        n_left = len(route.sources if self._mode == "forward" else route.targets)
        self._left = torch.ones(n_left if self.values.numel() else 0, dtype=torch.bool)

    @property
    def is_full(self) -> bool:
        """Whether all is known."""
        return not bool(self._left.any())

    def go_on(
        self,
        route: Route,
        progress: Progress | None = None,
        *,
        seconds: float,
        memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        """Take a turn of about `seconds`, but of one batch of passes at least.

        `route` is the same as before, opened in this turn.

        Raises:
            JobCancelled: through `progress`.
        """
        if self.is_full:
            return
        left, total = self._left.nonzero()[:, 0], len(self._left)
        forward = self._mode == "forward"
        chosen = left.to(route.source_values.device)
        rest = route.restrict(sources=chosen) if forward else route.restrict(targets=chosen)
        began = time.monotonic()
        for block in rest.blocks(mode=self._mode, memory_budget_bytes=memory_budget_bytes):
            rows, columns = block.targets.cpu(), block.sources.cpu()
            if forward:
                columns = left[columns]
            else:
                rows = left[rows]
            self.values[rows[:, None], columns] = block.values.cpu().float()
            self._left[columns if forward else rows] = False
            if progress is not None:
                done = total - int(self._left.sum())
                progress.update(done, total, unit="latents", message="Gradients")
            if time.monotonic() - began > seconds:
                return
        # What no block held depends on nothing here.
        self._left[:] = False
