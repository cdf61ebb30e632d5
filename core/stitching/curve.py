"""The SAE stitched together step by step, from the narrow one to the wide one.

First the novel latents are put in, those that lower the error most before others. Then the latents
of the narrow SAE make room, each for the repeated latents of the wide one that are nearest to it,
closest groups first; the bias moves from one to the other meanwhile. The first point is the narrow
SAE itself and the last the wide one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.activations.coded import Coded, sum_rows
from core.corpus.token_set import TokenSet
from core.fit_check.sums import draws, figure
from core.lease import Lease
from core.models.hooks import Model, run_with_replacements
from core.sae_quality.measure import batches_of, ids_of
from core.saes import put_at_site
from core.stitching.pair import Both, Site, both_at, site_of

_BATCH_TOKENS = 1024
STEPS = 6
"""Points of each of the two phases."""


@dataclass(frozen=True, eq=False)
class Plan:
    """When each latent comes and goes; steps count from 0, the narrow SAE."""

    enters: Int[np.ndarray, " d_wide"]
    """Step from which each latent of the wide SAE is there."""
    leaves: Int[np.ndarray, " d_narrow"]
    """Step from which each latent of the narrow SAE is gone."""
    bias: Float[np.ndarray, " points"]
    """Share of the wide SAE's bias at each step."""

    @property
    def points(self) -> int:
        """Steps, the narrow SAE included."""
        return len(self.bias)


@dataclass(frozen=True, eq=False)
class Curve:
    """What the stitched SAE does at each step; intervals are 95 %, by bootstrap over rows."""

    added: Int[np.ndarray, " points"]
    """Latents of the wide SAE in it."""
    kept: Int[np.ndarray, " points"]
    """Latents of the narrow SAE left in it."""
    error: Float[np.ndarray, "points 3"]
    """Mean squared error a position: value, lower and upper end."""
    l0: Float[np.ndarray, " points"]
    """Active latents a position."""
    random_error: Float[np.ndarray, " points"]
    """Mean squared error when the same numbers of latents come and go in random order: the null."""
    n_tokens: int
    """Positions."""
    loss: Float[np.ndarray, "points 3"] | None
    """Cross-entropy with the stitched SAE in the site's place, in nats a token."""
    loss_tokens: int
    """Predictions that the loss rests on."""
    last_novel: int
    """The step at which all novel latents are in."""


def plan_of(
    delta: Float[np.ndarray, " d_wide"],
    novel: np.ndarray,
    cosine: Float[np.ndarray, " d_wide"],
    match: Int[np.ndarray, " d_wide"],
    d_narrow: int,
    *,
    steps: int = STEPS,
) -> Plan:
    """When each latent comes and goes, from what each does and which narrow latent is nearest."""
    enters = np.full(len(delta), 2 * steps)
    chosen = np.flatnonzero(novel)
    chosen = chosen[np.argsort(delta[chosen], kind="stable")]
    for step, part in enumerate(np.array_split(chosen, steps), start=1):
        enters[part] = step
    others = np.flatnonzero(~novel & (match >= 0))
    closest = np.full(d_narrow, -np.inf)
    np.maximum.at(closest, match[others], cosine[others])
    order = np.argsort(-closest, kind="stable")
    leaves = np.full(d_narrow, 2 * steps)
    for step, part in enumerate(np.array_split(order, steps), start=steps + 1):
        leaves[part] = step
    enters[others] = leaves[match[others]]
    bias = np.r_[np.zeros(steps), np.linspace(0, 1, steps + 1)]
    return Plan(enters, leaves, bias)


def shuffled(plan: Plan, seed: int = 0) -> Plan:
    """The same numbers of latents at each step, but which ones is drawn."""
    generator = np.random.default_rng(seed)
    return Plan(generator.permutation(plan.enters), generator.permutation(plan.leaves), plan.bias)


def stitched(both: Both, site: Site, plan: Plan, step: int) -> Float[Tensor, "n d_out"]:
    """What the stitched SAE of one step writes at some positions."""
    n = len(both.wanted)
    narrow = _kept(both.narrow, plan.leaves > step)
    wide = _kept(both.wide, plan.enters <= step)
    share = float(plan.bias[step])
    bias = site.narrow_bias * (1 - share) + site.wide_bias.to(site.narrow_bias) * share
    return (
        sum_rows(site.narrow_rows, *narrow, n) + sum_rows(site.wide_rows, *wide, n).to(bias) + bias
    )


def measure_curve(
    lease: Lease, tokens: TokenSet, plan: Plan, *, last_novel: int = STEPS, loss_tokens: int = 0
) -> Curve:
    """The stitched SAE of each step of `plan` on the positions of `tokens` that count.

    The lease has the narrow and the wide SAE. The loss is measured on about `loss_tokens` of the
    positions, a run of the model a step. Raises ValueError as `pair.site_of`.
    """
    batches = batches_of(tokens, _BATCH_TOKENS)
    points, other = plan.points, shuffled(plan)
    errors = np.zeros((2, tokens.n_rows, points))
    active, n = np.zeros(points), np.zeros(tokens.n_rows)
    losses = np.zeros((tokens.n_rows, points + 1))
    read_for_loss = 0

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        nonlocal read_for_loss
        site = site_of(saes[0], saes[1])
        for rows in batches[first:last]:
            lease.progress.check()
            both = both_at(model, saes[0], saes[1], tokens, rows, site)
            n[:] += np.bincount(both.row, minlength=len(n))
            with_loss = read_for_loss < loss_tokens
            for step in range(points):
                for number, one in enumerate((plan, other)):
                    written = stitched(both, site, one, step)
                    error = (written - both.wanted.to(written)).double().pow(2).sum(1)
                    errors[number, :, step] += np.bincount(
                        both.row, error.cpu().numpy(), minlength=len(n)
                    )
                    if number == 0 and with_loss:
                        found = _losses(model, saes[0], tokens, rows, site.out, written)
                        losses[rows, step], losses[rows, -1] = found
                active[step] += _count(both.narrow, plan.leaves > step)
                active[step] += _count(both.wide, plan.enters <= step)
            if with_loss:
                read_for_loss += int(tokens.mask[rows].sum())

    lease.in_turns(len(batches), read, unit="batches", message="Stitching step by step")
    used = n > 0
    total = n.sum()
    counted = losses[losses[:, -1] > 0]
    return Curve(
        added=np.array([(plan.enters <= step).sum() for step in range(points)]),
        kept=np.array([(plan.leaves > step).sum() for step in range(points)]),
        error=_with_intervals(errors[0, used], n[used]),
        l0=active / total,
        random_error=errors[1].sum(0) / total,
        n_tokens=int(total),
        loss=_with_intervals(counted[:, :-1], counted[:, -1]) if len(counted) else None,
        loss_tokens=int(counted[:, -1].sum()),
        last_novel=last_novel,
    )


def _kept(found: Coded, there: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    kept = torch.from_numpy(there).to(found.latent.device)[found.latent]
    return found.position[kept], found.latent[kept], found.value[kept]


def _count(found: Coded, there: np.ndarray) -> int:
    return int(torch.from_numpy(there).to(found.latent.device)[found.latent].sum())


@torch.no_grad()
def _losses(
    model: Model, sae: SAE, tokens: TokenSet, rows: slice, out: str, written: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """(sum of losses, number of predictions) of each row, with `written` at the positions."""
    ids, mask = ids_of(model, tokens, rows)
    at = mask.to(ids.device)

    def put(site: Tensor) -> Tensor:
        part = put_at_site(sae, site[at], written)
        new = site.clone()
        new[at] = part
        return new

    replaced: dict[str, Callable[[Tensor], Tensor]] = {out: put}
    logits = run_with_replacements(model, ids, replaced)[:, :-1].float()
    loss = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    counts = at[:, 1:].double()
    return (loss * counts).sum(1).cpu().numpy(), counts.sum(1).cpu().numpy()


def _with_intervals(sums: np.ndarray, n: np.ndarray) -> Float[np.ndarray, "points 3"]:
    weights = draws(len(n))
    value, samples = sums.sum(0) / n.sum(), (weights @ sums) / (weights @ n)[:, None]
    found = [figure(float(v), samples[:, i], rows=len(n)) for i, v in enumerate(value)]
    return np.array([(it.value, it.low, it.high) for it in found])
