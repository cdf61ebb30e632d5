"""Induction circuits between attention SAEs: A B ... A, and the model says B.

On random tokens repeated once, a previous-token head writes "after A" at the first B, and an
induction head at the second A finds it there. Latents of the later SAE that fire all through the
second half are candidates, and their gradients should sit in the boxes (first B, second A). The
same is measured on random tokens that do not repeat, where nothing of the kind should show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.matrix import GradientMatrix, gradient_matrix, token_texts
from core.gradients.repeated_tokens import n_leading, unrepeated_control
from core.gradients.route import Filling, Route
from core.gradients.to_latents import LatentRoute, latent_route
from core.lease import Lease
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


@dataclass(frozen=True, eq=False)
class Induction:
    """What was found on repeated prompts, and on ones that do not repeat."""

    length: int
    """Tokens that are repeated."""
    tokens: Int[Tensor, "prompts pos"]
    """BOS, unless the SAEs were trained without, and the tokens, twice."""
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
    targets: Int[Tensor, "n_to 3"]
    """Prompt, position and latent of each of these latents in second halves."""
    sources: Int[Tensor, "n_from 3"]
    """The same of all active earlier latents."""
    gradients: Float[Tensor, "n_to n_from"]
    """Derivative of each target with respect to each source."""
    first_prompt: GradientMatrix
    """The part of them that belongs to the first prompt, for a heatmap."""

    @property
    def n_leading(self) -> int:
        """Positions in front of the repeated tokens: 1 for a beginning-of-text token, or 0."""
        return n_leading(self.tokens)


def box_positions(length: int, *, n_leading: int = 1) -> list[tuple[int, int]]:
    """Positions of (first B, second A) for each pair of neighbours in the repeated tokens, in front
    of which `n_leading` positions stand (BOS)."""
    first = n_leading + 1
    return [(first_b, first_b + length - 1) for first_b in range(first, first + length)]


def find_induction(
    lease: Lease,
    tokens: Int[Tensor, "prompts pos"],
    *,
    seed: int = 0,
    min_fraction: float = 1.0,
    min_gain: float = 0.25,
    n_partners: int = 5,
) -> Induction:
    """Look for latents that fire by induction, and for what they are fed by.

    `lease` is of a model with its earlier and its later SAE, `tokens` are as `repeated_tokens`
    makes them; `seed` chooses what stands in place of the repetition. A later latent counts when
    it fires on at least `min_fraction` of the second halves, or on `min_gain` more of them than of
    second halves that repeat nothing; the first alone may also hold of latents that fire on
    anything. Attention patterns are live, as they must be for this.

    Raises:
        ValueError: SAEs that do not read hook_z or are in the wrong order, or a fraction outside
            (0, 1].
        JobCancelled: through the lease's progress.
    """
    if not 0 < min_fraction <= 1:
        raise ValueError(f"min_fraction is {min_fraction}; use a share above 0 and up to 1.")
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    length = tokens.shape[1] // 2
    with lease.turn() as (model, saes):
        _check_heads(saes)
        control = unrepeated_control(model, tokens, length, seed)
        found, alone = (
            latent_route(prompts, saes[0], saes[1], model) for prompts in (tokens, control)
        )
        latents = _firing(found, alone, length, min_fraction=min_fraction, min_gain=min_gain)
        fillings = [
            Filling(_only(route, latents["latent"], length).route) for route in (found, alone)
        ]
        del found, alone

    def opened(prompts: Tensor, model: Model, saes: list[SAE]) -> LatentRoute:
        route = latent_route(prompts, saes[0], saes[1], model)
        return _only(route, latents["latent"], length)

    for filling, prompts in zip(fillings, (tokens, control), strict=True):
        while not filling.is_full:
            with lease.turn() as (model, saes):
                route = opened(prompts, model, saes).route
                filling.go_on(route, lease.progress, seconds=lease.turn_seconds())
                del route
    with lease.turn() as (model, saes):
        found, alone = (opened(prompts, model, saes) for prompts in (tokens, control))
        gradients, control_gradients = (
            filling.values.to(found.route.source_values) for filling in fillings
        )
        inside, causal = _boxes(found, length)
        targets, sources = found.route.target_indices, found.route.source_indices
        each = [
            _share(gradients, inside, causal, rows=targets[:, 2] == latent)
            for latent in latents["latent"]
        ]
        latents["share"] = [box.share for box in each]
        latents["score"] = [box.ratio for box in each]
        latents = latents.sort_values(
            ["gain", "score"], ascending=False, ignore_index=True, kind="stable"
        )
        return Induction(
            length=length,
            tokens=tokens,
            control_tokens=control,
            latents=latents,
            partners=_partners(found, gradients, inside, latents["latent"].tolist(), n_partners),
            boxes=_share(gradients, inside, causal),
            control_boxes=_share(control_gradients, *_boxes(alone, length)),
            targets=targets,
            sources=sources,
            gradients=gradients,
            first_prompt=_first_prompt(found.route, gradients, token_texts(model, tokens[:1])),
        )


def _check_heads(saes: Sequence[SAE]) -> None:
    for sae in saes:
        if not sae_hook_name(sae).endswith("hook_z"):
            raise ValueError(
                f"The SAE at {sae_hook_name(sae)} does not read attention heads (hook_z); "
                "induction is looked for between attention SAEs."
            )


def _firing(
    found: LatentRoute, alone: LatentRoute, length: int, *, min_fraction: float, min_gain: float
) -> pd.DataFrame:
    """Later latents that fire on second halves, as in `Induction.latents`."""
    second = _second(found.acts_next_recon.dense, length)
    fractions = pd.DataFrame(
        {
            "fraction": _fraction(found.acts_next_recon.dense, length),
            "fraction_true": _fraction(found.acts_next.dense, length),
            "fraction_control": _fraction(alone.acts_next_recon.dense, length),
            "mean_activation": second.mean((0, 1)).cpu(),
        }
    )
    fractions.insert(0, "latent", fractions.index)
    fractions["gain"] = fractions["fraction"] - fractions["fraction_control"]
    fractions["throughout"] = fractions["fraction"] >= min_fraction - 1e-9
    return fractions[fractions["throughout"] | (fractions["gain"] >= min_gain)].copy()


def _first_prompt(route: Route, gradients: Tensor, texts: list[list[str]]) -> GradientMatrix:
    rows, columns = (
        (indices[:, 0] == 0).nonzero()[:, 0]
        for indices in (route.target_indices, route.source_indices)
    )
    narrowed = route.restrict(targets=rows, sources=columns)
    return gradient_matrix(narrowed, gradients[rows][:, columns], texts)


def _second(latents: Tensor, length: int) -> Tensor:
    return latents[:, -length:]


def _fraction(latents: Tensor, length: int) -> Float[Tensor, " d_sae"]:
    return (_second(latents, length) > 0).float().mean((0, 1)).cpu()


def _only(route: LatentRoute, latents: Sequence[int] | pd.Series, length: int) -> LatentRoute:
    """Only these later latents, in second halves."""
    indices = route.route.target_indices
    wanted = torch.tensor(list(latents), device=indices.device, dtype=indices.dtype)
    begin = route.acts_next.dense.shape[1] - length
    kept = torch.isin(indices[:, 2], wanted) & (indices[:, 1] >= begin)
    return route.restrict(targets=kept.nonzero()[:, 0])


def _boxes(route: LatentRoute, length: int) -> tuple[Tensor, Tensor]:
    """Cells [n_to, n_from] in the boxes, and cells in which the source can reach the target."""
    to, source = route.route.target_indices, route.route.source_indices
    same = to[:, None, 0] == source[None, :, 0]
    back = to[:, None, 1] - source[None, :, 1]
    first = n_leading(route.acts_prev.dense[:, :, 0]) + 1
    first_b = (source[None, :, 1] >= first) & (source[None, :, 1] < first + length)
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
