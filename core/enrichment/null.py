"""How far from 0 is a score by chance? The score of a random set of as many tokens.

For the unweighted score that depends on nothing but the size of the set and of the vocabulary: a
random set is a random choice of ranks, whichever latent ranked the tokens. One null distribution
per size therefore serves all latents, and it is known in closed form (the Kolmogorov-Smirnov
distribution); no permutation is drawn, so p-values have no floor. With weights it depends on the
latent as well, and random sets are drawn.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from core.enrichment.score import weighted_scores

_SMALL, _LARGE = 60, 500
"""Effective sizes up to these use the exact distribution of one sample, in the middle and in the
tail; beyond, what it tends to."""
_MIDDLE_POINTS, _TAIL_POINTS = 160, 320
_MOST_DRAWN = 4_000_000


def log_p_value(
    scores: Float[np.ndarray, "..."], size: int, n_tokens: int
) -> Float[np.ndarray, "..."]:
    """Natural logarithm of the two-sided p-value of unweighted scores of one set.

    As `scipy.stats.ks_2samp` with `method="asymp"` for a sample of `size` and one of the rest: the
    distribution for one sample of the effective size `size · (n_tokens - size) / n_tokens`, which
    is exact in the limit of many tokens. It is right to some 10 % down to 1e-4, within a factor of
    2 down to 1e-12, and below that in the order of magnitude of its logarithm; never below what
    the most extreme arrangement is worth. NaN for NaN.

    Raises ValueError for a set of no tokens or of all.
    """
    if not 0 < size < n_tokens:
        raise ValueError(f"A set of {size} of {n_tokens} tokens has no null; give at least one.")
    effective = max(1, round(size * (n_tokens - size) / n_tokens))
    grid, known = _table(effective)
    found = np.interp(np.clip(np.abs(scores), 0.0, 1.0), grid, known)
    # No more than one choice of ranks at either end is as far out as can be.
    choices = special.gammaln(n_tokens + 1) - special.gammaln(size + 1)
    choices -= special.gammaln(n_tokens - size + 1)
    return np.maximum(found, min(0.0, np.log(2.0) - choices))


@lru_cache(maxsize=512)
def _table(n: int) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """(d, log P(D >= d)) of the two-sided one-sample statistic, ascending from 0 to 1."""
    border = min(1.0, 2.2 / np.sqrt(n))  # p is about 1e-4 there
    middle = np.linspace(0.0, border, _MIDDLE_POINTS)
    if n <= _SMALL:
        p_middle = stats.kstwo.sf(middle, n)
    else:
        z = (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)) * middle  # Stephens (1970)
        p_middle = special.kolmogorov(z)
    # Far out: the one-sided tail and as much on the other side. Its leading term outlives the range
    # of a float.
    tail = np.linspace(border, 1.0, _TAIL_POINTS + 1)[1:]
    log_tail = np.log(2.0) - 2 * n * tail**2
    with np.errstate(divide="ignore"):
        if n <= _LARGE:
            exact = np.log(2 * special.smirnov(n, tail))
            log_tail = np.where(np.isfinite(exact), exact, log_tail)
        log_p = np.concatenate([np.log(p_middle), log_tail])
    log_p = np.where(np.isfinite(log_p), log_p, -1e6)
    return np.concatenate([middle, tail]), np.minimum(np.minimum.accumulate(log_p), 0.0)


def permutation_p_values(
    logits: Float[np.ndarray, " vocab"],
    sizes: Int[np.ndarray, " n_sets"],
    scores: Float[np.ndarray, " n_sets"],
    *,
    weight: float,
    n_permutations: int = 1000,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> Float[np.ndarray, " n_sets"]:
    """P-values of one latent's scores: the share of random sets of a size with a score as far out
    *on the same side*, counted as in GSEA, the set itself included (so never 0).

    Sets of one size share their draws. Large sets get fewer permutations than asked for (four
    million tokens are drawn a size), but not below 100. `check` is called between sizes and may
    raise, to stop.

    Raises ValueError for fewer than 1 permutation.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; use 1 or more.")
    vocab = len(logits)
    order = np.argsort(-logits)
    profile = (np.abs(logits - logits.mean(dtype=np.float64)) ** weight)[order]
    found = np.full(len(scores), np.nan)
    for size in np.unique(sizes):
        k = int(size)
        n = min(n_permutations, max(100, _MOST_DRAWN // k))
        if check is not None:
            check()
        null = _null_scores(profile, k, n, vocab, np.random.default_rng([seed, k]))
        up, down = np.sort(null[null > 0]), np.sort(-null[null < 0])
        for place in np.flatnonzero(sizes == size):
            score = scores[place]
            if np.isfinite(score):
                side = up if score > 0 else down
                beyond = len(side) - np.searchsorted(side, abs(score), side="left")
                found[place] = (1 + beyond) / (1 + len(side))
    return found


def _null_scores(
    profile: Float[np.ndarray, " vocab"], k: int, n: int, vocab: int, rng: np.random.Generator
) -> Float[np.ndarray, " n"]:
    scores = np.empty(n)
    step = max(1, _MOST_DRAWN // (4 * k))
    for start in range(0, n, step):
        m = min(step, n - start)
        places = np.sort(np.stack([_choice(rng, vocab, k) for _ in range(m)]), axis=1)
        scores[start : start + m] = weighted_scores(places, profile[places], vocab)
    return scores


def _choice(rng: np.random.Generator, vocab: int, k: int) -> np.ndarray:
    return rng.choice(vocab, size=k, replace=False, shuffle=False)
