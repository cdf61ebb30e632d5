"""Does the model's answer rest on an absorbing latent? Integrated gradients at absorbed positions.

As in sae-spelling: all latents at a position are turned up from 0 to what they are, the SAE's error
kept, and the gradient of a metric is averaged on the way. A latent's activation times what it
writes times that gradient is its part; all parts together are the difference that the latents make
(completeness). The effect of removing a latent is its part, taken away. sae-spelling counts a word
as absorbed only where the latent of the most negative effect is the absorbing one.

The metric is the logit of the right letter less the mean of the others', where the model was asked
for a letter, and elsewhere the log-probability of the token that follows in the text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.absorption.spelling import Spelling
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.models.hooks import Model, hooks_at
from core.saes import encode, put_at_site, read_at_site, sae_hook_name
from core.saes.writes import unit_writes, written_site

STEPS = 16
"""Points on the way from 0, by Gauss and Legendre (sae-spelling takes 6 at equal distances)."""
MARGIN = 1.0
"""How far the strongest effect has to be from the second, in logits (sae-spelling)."""

Metric = Callable[[Float[Tensor, "batch pos vocab"]], Float[Tensor, " batch"]]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Parts of the latents that are active at one position."""

    latents: Int[np.ndarray, " n"]
    """The latents."""
    effects: Float[np.ndarray, " n"]
    """Change of the metric when each is removed, by integrated gradients: less than 0 where the
    answer rests on it."""
    difference: float
    """The metric with all of them less that without any, by two runs."""

    @property
    def gap(self) -> float:
        """How far the parts are from the difference together: 0 but for the steps of the integral,
        as a share of the parts' size."""
        size = float(np.abs(self.effects).sum())
        return abs(float(-self.effects.sum()) - self.difference) / size if size else 0.0


@dataclass(frozen=True, eq=False)
class Effects:
    """The absorbing latents of a concept, checked."""

    table: pd.DataFrame
    """A row for each latent: `latent`, `checked` (absorbed positions), `effect` (mean change of the
    metric when it is removed), `first` (share of the positions at which no other latent's effect is
    as negative), `clear` (share at which it leads by `MARGIN` as well)."""
    metric: str
    """What was measured, in words."""
    gap: float
    """Largest relative gap between the parts and their sum."""


@torch.enable_grad()
def integrated_gradients(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "1 pos"],
    position: int,
    metric: Metric,
    *,
    steps: int = STEPS,
) -> Attribution:
    """Parts of the latents active at a position, `metric` of the logits being what they bring.

    Raises ValueError for less than one step, or a position that is not there.
    """
    if steps < 1 or not 0 <= position < tokens.shape[1]:
        raise ValueError(
            f"{steps} steps at position {position} of {tokens.shape[1]}: use 1 or more, and a "
            "position of the text."
        )
    read, written = sae_hook_name(sae), written_site(sae)
    kept: dict[str, Tensor] = {}
    with torch.no_grad(), hooks_at(model, [(read, _keeps(sae, kept, position))]):
        model(tokens, return_type=None)
    acts = encode(sae, kept["read"][:, None]).to_dense()[0, 0].float()
    latents = acts.nonzero()[:, 0]
    writes = unit_writes(sae, latents.tolist()).float().flatten(1)
    parts = acts[latents, None] * writes.to(acts)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alpha = torch.from_numpy((nodes + 1) / 2).to(parts)
    whole = parts.sum(0)
    # Taken off at each point: what is not there yet; then nothing, and everything.
    missing = torch.cat([1 - alpha, alpha.new_tensor([0.0, 1.0])])
    taken = (missing[:, None] * whole).detach().requires_grad_()

    def put(activations: Tensor, hook: Any) -> Tensor:
        own = written == read
        part = read_at_site(sae, activations) if own else activations
        new = part.clone()
        new[:, position] = part[:, position] - taken.to(part).view(part[:, position].shape)
        return put_at_site(sae, activations, new) if own else new

    with hooks_at(model, [(written, put)]):
        logits = model(tokens.expand(len(taken), -1), return_type="logits")
    values = metric(logits.float())
    [gradient] = torch.autograd.grad(values[:steps].sum(), taken)
    ends = values[steps:].tolist()
    weight = torch.from_numpy(weights / 2).to(parts)
    # What is taken off more makes the metric less: the gradient in it is that of the effect.
    mean = (weight[:, None] * gradient[:steps]).sum(0)
    return Attribution(
        latents.cpu().numpy(),
        (parts @ mean).detach().cpu().double().numpy(),
        ends[0] - ends[1],
    )


def next_token_metric(token: int, position: int) -> Metric:
    """Log-probability of the token that follows."""
    return lambda logits: logits[:, position].log_softmax(-1)[:, token]


def letter_metric(answers: Sequence[int], letter: int) -> Metric:
    """Logit of the right letter at the end less the mean of the others'."""

    def metric(logits: Tensor) -> Tensor:
        found = logits[:, -1][:, list(answers)]
        others = (found.sum(1) - found[:, letter]) / (len(answers) - 1)
        return found[:, letter] - others

    return metric


def effects_of(
    lease: Lease,
    tokens: TokenSet,
    places: Mapping[int, Sequence[int]],
    *,
    spelling: Spelling | None = None,
    steps: int = STEPS,
) -> Effects:
    """The effects of absorbing latents at some of the places that each absorbs.

    `places` are flat indices into `tokens`, by latent. Raises ValueError where no place has a token
    behind it, as tokens on their own have not.
    """
    wanted = [(latent, place) for latent, some in places.items() for place in some]
    follows = {place: _next(tokens, place) for _, place in wanted}
    if spelling is None:
        wanted = [(it, place) for it, place in wanted if follows[place] >= 0]
    if not wanted:
        raise ValueError(
            "No token follows where these latents absorb the concept, so there is no answer that "
            "could rest on them; look at tokens within a text."
        )
    found: list[tuple[int, Attribution]] = []

    def work(model: Model, saes: list[SAE], first: int, last: int) -> None:
        device = next(model.parameters()).device
        for latent, place in wanted[first:last]:
            lease.progress.check()
            row, position = divmod(place, tokens.context)
            end = int(tokens.lengths[row]) if spelling is not None else position + 1
            ids = torch.from_numpy(tokens.tokens[row, :end].astype(np.int64))[None].to(device)
            if spelling is not None:
                metric = letter_metric(spelling.answers, int(spelling.letter[row]))
            else:
                metric = next_token_metric(follows[place], position)
            one = integrated_gradients(model, saes[0], ids, position, metric, steps=steps)
            found.append((latent, one))

    lease.in_turns(len(wanted), work, unit="positions", message="Removing absorbing latents")
    rows = [{"latent": latent, **_judged(latent, one)} for latent, one in found]
    table = pd.DataFrame(rows).groupby("latent", sort=False)
    means = table[["effect", "first", "clear"]].mean()
    means.insert(0, "checked", table.size())
    words = "logit of the right letter less the mean of the others'"
    return Effects(
        means.reset_index(),
        words if spelling is not None else "log-probability of the token that follows",
        max(one.gap for _, one in found),
    )


def _judged(latent: int, one: Attribution) -> dict[str, float]:
    mine = one.effects[one.latents == latent]
    if not len(mine):
        return {"effect": 0.0, "first": 0.0, "clear": 0.0}
    effect, others = float(mine[0]), one.effects[one.latents != latent]
    second = float(others.min()) if len(others) else 0.0
    first = effect < 0 and effect <= second
    largest = float(np.abs(others).max()) if len(others) else 0.0
    return {
        "effect": effect,
        "first": float(first),
        "clear": float(first and abs(effect) - largest >= MARGIN),
    }


def _next(tokens: TokenSet, place: int) -> int:
    """The token behind a place of a text, in the same row; -1 where there is none."""
    row, position = divmod(place, tokens.context)
    if position + 1 >= int(tokens.lengths[row]):
        return -1
    return int(tokens.tokens[row, position + 1])


def _keeps(sae: SAE, kept: dict[str, Tensor], position: int) -> Callable[..., None]:
    def keep(activations: Tensor, hook: Any) -> None:
        kept["read"] = read_at_site(sae, activations)[:, position]

    return keep
