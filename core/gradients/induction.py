"""Induction circuits between attention SAEs: A B ... A, and the model says B.

On random tokens repeated once, a previous-token head writes "after A" at the first B, and an
induction head at the second A finds it there. Latents of the later SAE that fire all through the
second half are candidates, and their gradients should sit in the boxes (first B, second A). The
same is measured on random tokens that do not repeat, where nothing of the kind should show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.latents import LatentRoute, latent_route
from core.gradients.route import GradientOptions, freezing, pass_options
from core.models.hooks import Model, cache_sites, context_length
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


def repeated_tokens(
    model: Model, length: int = 10, *, n_prompts: int = 1, seed: int = 0, repeated: bool = True
) -> Int[Tensor, "prompts pos"]:
    """BOS, `length` random tokens, and the same again (or, if not `repeated`, others).

    No token occurs twice within a half, nor a special token at all.

    Raises:
        ValueError: a length below 2, or beyond half the context or vocabulary.
    """
    tokenizer = model.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", []))
    ordinary = torch.tensor([it for it in range(model.cfg.d_vocab) if it not in special])
    most = min((context_length(model) - 1) // 2, len(ordinary) // 2)
    if not 2 <= length <= most:
        raise ValueError(f"The length is {length}; this model can repeat 2 to {most} tokens.")
    generator = torch.Generator().manual_seed(seed)
    bos = getattr(tokenizer, "bos_token_id", None)
    rows = []
    for _ in range(n_prompts):
        drawn = ordinary[torch.randperm(len(ordinary), generator=generator)[: 2 * length]]
        second = drawn[:length] if repeated else drawn[length:]
        rows.append(torch.cat([torch.tensor([bos or 0]), drawn[:length], second]))
    return torch.stack(rows).to(next(model.parameters()).device)


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
    if not 0 < min_fraction <= 1:
        raise ValueError(f"min_fraction is {min_fraction}; use a share above 0 and up to 1.")
    for sae in (sae_from, sae_to):
        if not sae_hook_name(sae).endswith("hook_z"):
            raise ValueError(
                f"The SAE at {sae_hook_name(sae)} does not read attention heads (hook_z); "
                "induction is looked for between attention SAEs."
            )
    if tokens is None:
        tokens = repeated_tokens(model, length, n_prompts=n_prompts, seed=seed)
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    length = tokens.shape[1] // 2
    control = _unrepeated(model, tokens, length, seed)
    found = latent_route(tokens, sae_from, sae_to, model, **freezing(options))
    alone = latent_route(control, sae_from, sae_to, model, **freezing(options))
    fractions = pd.DataFrame(
        {
            "fraction": _fraction(found.acts_next_recon.dense, length),
            "fraction_true": _fraction(found.acts_next.dense, length),
            "fraction_control": _fraction(alone.acts_next_recon.dense, length),
            "mean_activation": _second(found.acts_next_recon.dense, length).mean((0, 1)).cpu(),
        }
    )
    fractions.insert(0, "latent", fractions.index)
    fractions["gain"] = fractions["fraction"] - fractions["fraction_control"]
    fractions["throughout"] = fractions["fraction"] >= min_fraction - 1e-9
    latents = fractions[fractions["throughout"] | (fractions["gain"] >= min_gain)].copy()
    found, alone = (_only(route, latents["latent"], length) for route in (found, alone))
    passes = pass_options(options)
    passes["kind"] = "gradient"
    gradients, control_gradients = (route.route.gradients(**passes) for route in (found, alone))
    inside, causal = _boxes(found, length)
    each = [
        _share(gradients, inside, causal, rows=found.route.target_indices[:, 2] == latent)
        for latent in latents["latent"]
    ]
    latents["share"], latents["score"] = [it.share for it in each], [it.ratio for it in each]
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
        route=found,
        gradients=gradients,
    )


@torch.no_grad()
def head_scores(model: Model, tokens: Int[Tensor, "prompts pos"]) -> pd.DataFrame:
    """How far each attention head looks at the previous token, and how far it does induction.

    `tokens` are repeated, as `repeated_tokens` makes them. A row a head: layer, head,
    previous_token (mean attention from a position to the one before), induction (mean attention
    from each token of the second half to the one after its first occurrence).
    """
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    length = tokens.shape[1] // 2
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    rows = []
    for layer, pattern in enumerate(cache_sites(model, tokens, names).values()):
        previous = pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1))
        # The k-th entry of this diagonal is attention from position k + length - 1 to k.
        induction = pattern.diagonal(1 - length, dim1=-2, dim2=-1)[..., 2:].mean((0, -1))
        rows += [
            {"layer": layer, "head": head, "previous_token": float(p), "induction": float(i)}
            for head, (p, i) in enumerate(zip(previous, induction, strict=True))
        ]
    return pd.DataFrame(rows)


def _unrepeated(model: Model, tokens: Tensor, length: int, seed: int) -> Tensor:
    """The same first halves, each with a second half of tokens that are not in it."""
    # Twice as many tokens as are needed: the first half can rule out no more than that.
    spare = repeated_tokens(model, length, n_prompts=len(tokens), seed=seed + 1, repeated=False)
    control = tokens.clone()
    for prompt, candidates in zip(control, spare, strict=True):
        fresh = candidates[~torch.isin(candidates, prompt)]
        prompt[length + 1 :] = fresh[:length]
    return control


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
