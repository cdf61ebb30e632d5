"""Scores, p-values and false-discovery rates of all latents and all sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from core.enrichment.null import log_p_value
from core.enrichment.score import enrichment_scores
from core.enrichment.token_sets import TokenSets
from core.jobs.progress import Progress

LogitsOf = Callable[[int, int], Float[np.ndarray, "n d_vocab"]]
"""Logits of the latents from the first to before the last, for all tokens."""

_PIECE_BYTES = 8 << 20
N_CONTROLS = 1000
"""Random directions that scores are compared with."""


@dataclass(frozen=True, eq=False)
class Enrichment:
    """All latents against all sets; rows are latents, columns sets, as in `TokenSets`."""

    scores: Float[np.ndarray, "n n_sets"]
    """Signed unweighted scores, -1 to 1 (float32)."""
    log10_p: Float[np.ndarray, "n n_sets"]
    """log10 of the two-sided p-value for a random set of as many tokens (float32)."""
    q: Float[np.ndarray, "n n_sets"]
    """False-discovery rate at which a score counts as enriched (float32): Benjamini and Hochberg,
    over all latents and sets."""
    controls: Float[np.ndarray, "n_controls n_sets"]
    """Scores of random directions (float32)."""

    def beyond_controls(self) -> Float[np.ndarray, "n n_sets"]:
        """Share of random directions with a score as far from 0 or farther, counted with the
        latent itself, so at least 1 / (n_controls + 1). NaN where there is no score."""
        found = np.full(self.scores.shape, np.nan, dtype=np.float32)
        for column in range(self.scores.shape[1]):
            reached = np.sort(np.abs(self.controls[:, column]))
            reached = reached[np.isfinite(reached)]
            below = np.searchsorted(reached, np.abs(self.scores[:, column]), side="left")
            found[:, column] = (1 + len(reached) - below) / (1 + len(reached))
        return np.where(np.isfinite(self.scores), found, np.nan)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, as the store keeps them."""
        return {name: getattr(self, name) for name in ("scores", "log10_p", "q", "controls")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Enrichment":
        """What `to_arrays` gave."""
        return cls(**arrays)


@dataclass(frozen=True, eq=False)
class RunningSum:
    """How one latent's score for one set comes about."""

    score: float
    """The running sum where it is farthest from 0."""
    peak: int
    """Rank at which that is."""
    ranks: Int[np.ndarray, " size"]
    """Ranks of the set's tokens, ascending from 0 for the largest logit."""
    ids: Int[np.ndarray, " size"]
    """These tokens, in that order."""
    x: Float[np.ndarray, " m"]
    """Ranks at which the curve bends."""
    y: Float[np.ndarray, " m"]
    """Running sum there."""


@torch.no_grad()
def enrich(
    directions: Float[Tensor, "n d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    sets: TokenSets,
    *,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Enrichment:
    """As `enrich_rows`, of the rows of `directions @ W_U`."""
    weights = W_U.float()

    def logits_of(first: int, last: int) -> np.ndarray:
        return (directions[first:last].to(weights) @ weights).cpu().numpy()

    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n_controls, W_U.shape[0], generator=generator).to(weights)

    def controls_of(first: int, last: int) -> np.ndarray:
        return (random[first:last] @ weights).cpu().numpy()

    return enrich_rows(
        logits_of,
        len(directions),
        sets,
        controls_of=controls_of,
        n_controls=n_controls,
        progress=progress,
    )


def enrich_rows(
    logits_of: LogitsOf,
    n_latents: int,
    sets: TokenSets,
    *,
    controls_of: LogitsOf,
    n_controls: int = N_CONTROLS,
    progress: Progress | None = None,
) -> Enrichment:
    """Score all latents against all sets, some 8 MB of logits at a time.

    `controls_of` gives the logits of random directions, which tell what any direction in this
    model reaches: tokens of one kind lie together in the unembedding, so random directions, too,
    are far more enriched than random sets of tokens.

    Some 25 ms a latent for 57 sets and 50,000 tokens on one CPU core, so ten minutes for 24,576
    latents; 100 MB or so beyond the results, which take 12 bytes a latent and set.

    Raises ValueError when there is no set.
    """
    if len(sets) == 0:
        raise ValueError("There is no set of tokens to look for; give at least one.")
    total = n_latents + n_controls
    controls = _all_scores(controls_of, n_controls, sets, progress, done=0, total=total)
    scores = _all_scores(logits_of, n_latents, sets, progress, done=n_controls, total=total)
    log_p = np.empty(scores.shape)
    for column, size in enumerate(sets.sizes):
        log_p[:, column] = log_p_value(scores[:, column], int(size), len(sets.universe))
    return Enrichment(
        scores=scores.astype(np.float32),
        log10_p=(log_p / np.log(10)).astype(np.float32),
        q=_false_discovery(log_p).astype(np.float32),
        controls=controls.astype(np.float32),
    )


def _false_discovery(log_p: Float[np.ndarray, "n n_sets"]) -> Float[np.ndarray, "n n_sets"]:
    found = np.full(log_p.shape, np.nan)
    tested = np.isfinite(log_p)
    if tested.any():
        found[tested] = stats.false_discovery_control(np.exp(log_p[tested]), method="bh")
    return found


def _all_scores(
    logits_of: LogitsOf,
    n: int,
    sets: TokenSets,
    progress: Progress | None,
    *,
    done: int,
    total: int,
) -> Float[np.ndarray, "n n_sets"]:
    members = _columns(sets)
    step = max(1, _PIECE_BYTES // (4 * len(sets.universe)))
    scores = np.empty((n, len(sets)))
    for first in range(0, n, step):
        if progress is not None:
            progress.update(done + first, total, unit="latents", message="Ranking the tokens")
        last = min(first + step, n)
        logits = logits_of(first, last)
        scores[first:last] = enrichment_scores(_ranked(logits, sets), members)
    if progress is not None:
        progress.update(done + n, total, unit="latents", message="Ranking the tokens")
    return scores


def one_latent(
    logits: Float[np.ndarray, " d_vocab"], sets: TokenSets, *, weight: float = 0.0
) -> Float[np.ndarray, " n_sets"]:
    """Scores of one latent for all sets."""
    return enrichment_scores(_ranked(logits[None], sets), _columns(sets), weight=weight)[0]


def running_sum(
    logits: Float[np.ndarray, " d_vocab"],
    sets: TokenSets,
    number: int,
    *,
    weight: float = 0.0,
    most_points: int = 4000,
) -> RunningSum:
    """The curve behind the score of set `number`; of long curves every so many bends are given,
    and always the peak.

    Raises ValueError for logits without a spread.
    """
    ranked = _ranked(logits[None], sets)[0]
    if not np.isfinite(ranked).all() or np.ptp(ranked) == 0:
        raise ValueError("All tokens have the same logit here, so there is no order of tokens.")
    order = np.argsort(-ranked)
    inside = np.zeros(len(ranked), dtype=bool)
    inside[_columns(sets)[number]] = True
    ranks = np.flatnonzero(inside[order])
    ids = sets.universe[order[ranks]]
    sizes = np.abs(ranked - ranked.mean(dtype=np.float64)) ** weight
    steps = sizes[order[ranks]].astype(np.float64)
    k, n_tokens = len(ranks), len(ranked)
    risen = np.concatenate([[0.0], steps.cumsum() / steps.sum()])
    fallen = (ranks - np.arange(k)) / (n_tokens - k)
    # Just before and just after each of the set's tokens, and at both ends.
    x = np.concatenate([[0.0], np.stack([ranks, ranks + 1], axis=1).ravel(), [n_tokens]])
    y = np.concatenate(
        [[0.0], np.stack([risen[:-1] - fallen, risen[1:] - fallen], axis=1).ravel(), [0.0]]
    )
    peak = int(np.abs(y).argmax())
    kept = np.unique(np.r_[np.linspace(0, len(x) - 1, min(most_points, len(x))).astype(int), peak])
    return RunningSum(
        score=float(y[peak]), peak=int(x[peak]), ranks=ranks, ids=ids, x=x[kept], y=y[kept]
    )


def _ranked(logits: Float[np.ndarray, "n d_vocab"], sets: TokenSets) -> np.ndarray:
    n_tokens = len(sets.universe)
    return logits if n_tokens == logits.shape[1] else logits[:, sets.universe]


def _columns(sets: TokenSets) -> list[np.ndarray]:
    return [np.searchsorted(sets.universe, it.ids) for it in sets]
