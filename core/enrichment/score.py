"""Running-sum scores of many latents and sets at once, and the curve behind a single one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from core.enrichment.token_sets import TokenSets


def ranks_of(logits: Float[np.ndarray, "n vocab"]) -> Int[np.ndarray, "n vocab"]:
    """Place of each token when a row is sorted, largest first, from 0 (int32)."""
    order = np.argsort(-logits, axis=1)
    ranks = np.empty(logits.shape, dtype=np.int32)
    places = np.broadcast_to(np.arange(logits.shape[1], dtype=np.int32), logits.shape)
    np.put_along_axis(ranks, order, places, axis=1)
    return ranks


def enrichment_scores(
    logits: Float[np.ndarray, "n vocab"],
    members: Sequence[Int[np.ndarray, " size"]],
    *,
    weight: float = 0.0,
) -> Float[np.ndarray, "n n_sets"]:
    """Signed enrichment score of each row for each set, -1 to 1 (float64).

    A row's tokens are sorted by logit, largest first. The running sum goes up by 1/|S| at a token
    of the set S and down by 1/(V - |S|) at any other; the score is its value farthest from 0: above
    0 where the set is pushed up, below where it is pushed down. It is the two-sample
    Kolmogorov-Smirnov statistic with a sign. With a `weight` p above 0, a token of the set counts
    |logit - mean|^p instead of 1 (p = 1 in gene set enrichment analysis), so that what lies in the
    middle matters less.

    Rows that hold NaN or infinity, or whose logits are all equal, get NaN.

    Args:
        logits: a row a latent.
        members: columns of the tokens of each set, without repetition.
        weight: p.

    Raises:
        ValueError: an empty set, one of all tokens, or a weight below 0.
    """
    n, vocab = logits.shape
    for ids in members:
        if not 0 < len(ids) < vocab:
            raise ValueError(
                f"A set of {len(ids)} of {vocab} tokens has no score; give 1 to {vocab - 1}."
            )
    if not weight >= 0:
        raise ValueError(f"weight is {weight}; use 0 (every token counts the same) or more.")
    scores = np.full((n, len(members)), np.nan)
    usable = np.isfinite(logits).all(axis=1)
    usable[usable] = np.ptp(logits[usable], axis=1) > 0
    if not usable.any() or not members:
        return scores
    whole = logits if usable.all() else logits[usable]
    ranks = ranks_of(whole)
    if weight == 0:
        columns = [_unweighted(np.sort(ranks[:, ids], axis=1), vocab) for ids in members]
    else:
        sizes = np.abs(whole - whole.mean(axis=1, dtype=np.float64)[:, None]) ** weight
        columns = [_weighted(ranks[:, ids], sizes[:, ids], vocab) for ids in members]
    scores[usable] = np.stack(columns, axis=1)
    return scores


def _unweighted(places: Int[np.ndarray, "n size"], vocab: int) -> Float[np.ndarray, " n"]:
    """Score of a set whose tokens are at these places, ascending."""
    # Before the j-th member (from 0) the sum is j/k - (place - j)/(V - k), which over the common
    # denominator k·(V - k) is the whole number j·V - k·place; after it, V - k more.
    k = places.shape[1]
    before = np.arange(k, dtype=np.int64) * vocab - np.int64(k) * places
    up = before.max(axis=1) + (vocab - k)
    down = before.min(axis=1)
    return np.where(up >= -down, up, down) / (float(k) * (vocab - k))


def _weighted(
    places: Int[np.ndarray, "n size"], sizes: Float[np.ndarray, "n size"], vocab: int
) -> Float[np.ndarray, " n"]:
    order = np.argsort(places, axis=1)
    places = np.take_along_axis(places, order, axis=1)
    steps = np.take_along_axis(sizes, order, axis=1).astype(np.float64)
    return weighted_scores(places, steps, vocab)


def weighted_scores(
    places: Int[np.ndarray, "n size"], steps: Float[np.ndarray, "n size"], vocab: int
) -> Float[np.ndarray, " n"]:
    """Scores of sets at these places, ascending, whose tokens count `steps`; NaN if all are 0."""
    k = places.shape[1]
    total = steps.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        risen = steps.cumsum(axis=1) / total
    fallen = (places - np.arange(k)) / (vocab - k)
    up = (risen - fallen).max(axis=1)
    down = (np.concatenate([np.zeros_like(total), risen[:, :-1]], axis=1) - fallen).min(axis=1)
    return np.where(np.isnan(up) | np.isnan(down), np.nan, np.where(up >= -down, up, down))


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


def set_scores(
    logits: Float[np.ndarray, "n d_vocab"], sets: TokenSets, *, weight: float = 0.0
) -> Float[np.ndarray, "n n_sets"]:
    """`enrichment_scores` of some latents for all sets."""
    return enrichment_scores(_ranked(logits, sets), _columns(sets), weight=weight)


def one_latent(
    logits: Float[np.ndarray, " d_vocab"], sets: TokenSets, *, weight: float = 0.0
) -> Float[np.ndarray, " n_sets"]:
    """Scores of one latent for all sets."""
    return set_scores(logits[None], sets, weight=weight)[0]


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
    return [np.searchsorted(sets.universe, tokens.ids) for tokens in sets]
