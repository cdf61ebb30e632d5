"""Induction circuits between attention SAEs: A B ... A, and the model says B.

On random tokens repeated once, a previous-token head writes "after A" at the first B, and an
induction head at the second A finds it there. Latents of the later SAE that fire all through the
second half are candidates, and their gradients should sit in the boxes (first B, second A). The
same is measured on random tokens that do not repeat, where nothing of the kind should show.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.heads import repeated_tokens, unrepeated
from core.gradients.route import Filling, GradientOptions, freezing, pass_options
from core.gradients.to_latents import LatentRoute, latent_route
from core.jobs.progress import Progress
from core.models.hooks import Model
from core.saes import sae_hook_name


@dataclass(frozen=True)
class BoxShare:
    """How much of the gradients sits where induction puts them."""

    share: float
    """Share of the summed |gradient| in the boxes; NaN without any gradient."""
    chance: float
    """Share of the cells in the boxes, of those whose source is not after their target."""

    @property
    def ratio(self) -> float:
        """How many times more than its area the boxes hold; 1 is chance."""
        return self.share / self.chance if self.chance else float("nan")


@dataclass(frozen=True)
class Induction:
    """What was found on repeated prompts, and on ones that do not repeat."""

    length: int
    """Tokens that are repeated."""
    tokens: Int[Tensor, "prompts pos"]
    """BOS and the tokens, twice."""
    control_tokens: Int[Tensor, "prompts pos"]
    """The same first halves, each followed by other tokens."""
    latents: pd.DataFrame
    """Later latents found, the most specific first: latent; fraction of second halves it fires on
    (as reconstructed), fraction_true (on clean prompts), fraction_control, gain = fraction -
    fraction_control; throughout (whether the first alone counts it in); mean_activation there;
    share of its |gradient| in the boxes, and score = that share over its chance."""
    partners: pd.DataFrame
    """Their earlier partners in the boxes, strongest first for each: to_latent, from_latent, boxes
    (in how many both are active), gradient (mean over these), attribution (mean over all boxes of
    gradient x activation)."""
    boxes: BoxShare
    """Of the gradients of these latents in second halves."""
    control_boxes: BoxShare
    """Of the same latents in the same places of prompts that do not repeat."""
    route: LatentRoute
    """All sources to these latents in second halves, for a heatmap."""
    gradients: Float[Tensor, "n_to n_from"]
    """Gradients of that route."""


def box_positions(length: int) -> list[tuple[int, int]]:
    """Positions of (first B, second A) for each pair of neighbours in the repeated tokens."""
    return [(first_b, first_b + length - 1) for first_b in range(2, length + 2)]


def find_induction(
    model: Model,
    sae_from: SAE,
    sae_to: SAE,
    *,
    length: int = 10,
    n_prompts: int = 4,
    seed: int = 0,
    min_fraction: float = 1.0,
    min_gain: float = 0.25,
    n_partners: int = 5,
    tokens: Int[Tensor, "prompts pos"] | None = None,
    **options: Unpack[GradientOptions],
) -> Induction:
    """Look for latents that fire by induction, and for what they are fed by.

    Prompts are random (`seed`), or `tokens` as `repeated_tokens` makes them. A later latent counts
    when it fires on at least `min_fraction` of the second halves, or on `min_gain` more of them
    than of second halves that repeat nothing; the first alone may also hold of latents that fire
    on anything. `options` are those of `GradientOptions` that concern the passes and freezing;
    attention is live by default, as it must be for this.

    Raises:
        ValueError: SAEs that do not read hook_z or are in the wrong order, or a fraction outside
            (0, 1].
    """
    if tokens is None:
        tokens = repeated_tokens(model, length, n_prompts=n_prompts, seed=seed)
    search = InductionSearch(
        model,
        sae_from,
        sae_to,
        tokens,
        seed=seed,
        min_fraction=min_fraction,
        min_gain=min_gain,
        **options,
    )
    while not search.is_done:
        search.go_on(model, sae_from, sae_to, options.get("progress"), seconds=math.inf)
    return search.found(model, sae_from, sae_to, n_partners=n_partners)


class InductionSearch:
    """The search in several turns, so that others use the model in between; holds on to none.

    Every turn is given the model and the SAEs that it began with.
    """

    def __init__(
        self,
        model: Model,
        sae_from: SAE,
        sae_to: SAE,
        tokens: Int[Tensor, "prompts pos"],
        *,
        seed: int = 0,
        min_fraction: float = 1.0,
        min_gain: float = 0.25,
        **options: Unpack[GradientOptions],
    ) -> None:
        """Find the latents; their gradients are left to `go_on`. As for `find_induction`."""
        if not 0 < min_fraction <= 1:
            raise ValueError(f"min_fraction is {min_fraction}; use a share above 0 and up to 1.")
        for sae in (sae_from, sae_to):
            if not sae_hook_name(sae).endswith("hook_z"):
                raise ValueError(
                    f"The SAE at {sae_hook_name(sae)} does not read attention heads (hook_z); "
                    "induction is looked for between attention SAEs."
                )
        tokens = tokens[None] if tokens.dim() == 1 else tokens
        self.length = tokens.shape[1] // 2
        """Tokens that are repeated."""
        self._tokens = (tokens, unrepeated(model, tokens, self.length, seed))
        self._options = options
        found, alone = (
            latent_route(it, sae_from, sae_to, model, **freezing(options)) for it in self._tokens
        )
        fractions = pd.DataFrame(
            {
                "fraction": _fraction(found.acts_next_recon.dense, self.length),
                "fraction_true": _fraction(found.acts_next.dense, self.length),
                "fraction_control": _fraction(alone.acts_next_recon.dense, self.length),
                "mean_activation": _second(found.acts_next_recon.dense, self.length)
                .mean((0, 1))
                .cpu(),
            }
        )
        fractions.insert(0, "latent", fractions.index)
        fractions["gain"] = fractions["fraction"] - fractions["fraction_control"]
        fractions["throughout"] = fractions["fraction"] >= min_fraction - 1e-9
        chosen = fractions["throughout"] | (fractions["gain"] >= min_gain)
        self._latents = fractions[chosen].copy()
        mode = options.get("mode", "auto")
        self._fillings = tuple(
            Filling(_only(it, self._latents["latent"], self.length).route, mode=mode)
            for it in (found, alone)
        )

    @property
    def is_done(self) -> bool:
        """Whether all gradients are known."""
        return all(filling.is_full for filling in self._fillings)

    def go_on(
        self,
        model: Model,
        sae_from: SAE,
        sae_to: SAE,
        progress: Progress | None = None,
        *,
        seconds: float,
    ) -> None:
        """Take a turn of about `seconds`. Raises JobCancelled through `progress`."""
        for number, filling in enumerate(self._fillings):
            if not filling.is_full:
                route = self._opened(number, model, sae_from, sae_to).route
                budget = pass_options(self._options)["memory_budget_bytes"]
                filling.go_on(route, progress, seconds=seconds, memory_budget_bytes=budget)
                return

    def found(self, model: Model, sae_from: SAE, sae_to: SAE, *, n_partners: int = 5) -> Induction:
        """What came of it, once it is done."""
        found, alone = (self._opened(it, model, sae_from, sae_to) for it in (0, 1))
        gradients, control_gradients = (
            filling.values.to(found.route.source_values) for filling in self._fillings
        )
        inside, causal = _boxes(found, self.length)
        latents = self._latents.copy()
        each = [
            _share(gradients, inside, causal, rows=found.route.target_indices[:, 2] == latent)
            for latent in latents["latent"]
        ]
        latents["share"], latents["score"] = [it.share for it in each], [it.ratio for it in each]
        latents = latents.sort_values(
            ["gain", "score"], ascending=False, ignore_index=True, kind="stable"
        )
        order = latents["latent"].tolist()
        return Induction(
            length=self.length,
            tokens=self._tokens[0],
            control_tokens=self._tokens[1],
            latents=latents,
            partners=_partners(found, gradients, inside, order, n_partners),
            boxes=_share(gradients, inside, causal),
            control_boxes=_share(control_gradients, *_boxes(alone, self.length)),
            route=found,
            gradients=gradients,
        )

    def _opened(self, number: int, model: Model, sae_from: SAE, sae_to: SAE) -> LatentRoute:
        """The route on one set of prompts, to the latents found in second halves."""
        route = latent_route(
            self._tokens[number], sae_from, sae_to, model, **freezing(self._options)
        )
        return _only(route, self._latents["latent"], self.length)


def _second(latents: Tensor, length: int) -> Tensor:
    return latents[:, length + 1 :]


def _fraction(latents: Tensor, length: int) -> Float[Tensor, " d_sae"]:
    return (_second(latents, length) > 0).float().mean((0, 1)).cpu()


def _only(route: LatentRoute, latents: Sequence[int] | pd.Series, length: int) -> LatentRoute:
    """Only these later latents, in second halves."""
    indices = route.route.target_indices
    wanted = torch.tensor(list(latents), device=indices.device, dtype=indices.dtype)
    kept = torch.isin(indices[:, 2], wanted) & (indices[:, 1] > length)
    return route.restrict(targets=kept.nonzero()[:, 0])


def _boxes(route: LatentRoute, length: int) -> tuple[Tensor, Tensor]:
    """Cells [n_to, n_from] in the boxes, and cells in which the source can reach the target."""
    to, source = route.route.target_indices, route.route.source_indices
    same = to[:, None, 0] == source[None, :, 0]
    back = to[:, None, 1] - source[None, :, 1]
    first_b = (source[None, :, 1] >= 2) & (source[None, :, 1] <= length + 1)
    return same & first_b & (back == length - 1), same & (back >= 0)


def _share(gradients: Tensor, inside: Tensor, causal: Tensor, rows: Any = slice(None)) -> BoxShare:
    size, inside, causal = gradients[rows].abs(), inside[rows], causal[rows]
    total, cells = float(size.sum()), int(causal.sum())
    return BoxShare(
        share=float(size[inside].sum()) / total if total else float("nan"),
        chance=int(inside.sum()) / cells if cells else float("nan"),
    )


def _partners(
    found: LatentRoute, gradients: Tensor, inside: Tensor, order: list[int], n: int
) -> pd.DataFrame:
    to, source = inside.nonzero().unbind(-1)
    slope = gradients[to, source]
    cells = pd.DataFrame(
        {
            "to_latent": found.route.target_indices[to, 2].cpu().numpy(),
            "from_latent": found.route.source_indices[source, 2].cpu().numpy(),
            "gradient": slope.cpu().numpy(),
            "attribution": (slope * found.route.source_values[source]).cpu().numpy(),
        }
    )
    n_boxes = found.acts_prev.dense.shape[0] * (found.acts_prev.dense.shape[1] // 2)
    pairs = cells.groupby(["to_latent", "from_latent"], as_index=False).agg(
        boxes=("gradient", "size"),
        gradient=("gradient", "mean"),
        attribution=("attribution", "sum"),
    )
    pairs["attribution"] /= n_boxes
    rank = {latent: number for number, latent in enumerate(order)}
    pairs["rank"] = pairs["to_latent"].map(rank)
    pairs["size"] = pairs["attribution"].abs()
    pairs = pairs.sort_values(["rank", "size"], ascending=[True, False], kind="stable")
    pairs = pairs.groupby("to_latent", sort=False).head(n)
    return pairs.drop(columns=["rank", "size"]).reset_index(drop=True)
