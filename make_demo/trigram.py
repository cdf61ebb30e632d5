"""An interpolated Kneser-Ney trigram, the baseline that the base model must beat.

One discount D for both orders. With counts c, N₁₊(h·) the number of different continuations of h,
and N₁₊(·h) the number of different words before h:

    P(w | u v) = max(c(u v w) − D, 0) / c(u v)      + D·N₁₊(u v ·)/c(u v)   · P(w | v)
    P(w | v)   = max(N₁₊(· v w) − D, 0) / N₁₊(· v ·) + D·N₁₊(v ·)/N₁₊(· v ·) · P(w)
    P(w)       = N₁₊(· w) / N₁₊(· ·), mixed with 0.1 % of the uniform distribution
"""

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75
_UNIFORM_SHARE = 1e-3


class KneserNeyTrigram:
    """Counts as sorted integer keys, so a query is a binary search."""

    def __init__(self, tokens: NDArray[np.integer], vocab_size: int) -> None:
        v = self.vocab_size = vocab_size
        t = tokens.astype(np.int64)
        self.trigrams, self.trigram_counts = np.unique(
            (t[:-2] * v + t[1:-1]) * v + t[2:], return_counts=True
        )
        self.contexts, first, self.context_types = np.unique(
            self.trigrams // v, return_index=True, return_counts=True
        )
        self.context_totals = np.add.reduceat(self.trigram_counts, first)
        # Lower orders count different left neighbours, not occurrences: Kneser-Ney's idea.
        self.bigrams, self.bigram_types = np.unique(self.trigrams % (v * v), return_counts=True)
        self.words, first, self.word_types = np.unique(
            self.bigrams // v, return_index=True, return_counts=True
        )
        self.word_totals = np.add.reduceat(self.bigram_types, first)
        continuation = np.zeros(v)
        seen, counts = np.unique(self.bigrams % v, return_counts=True)
        continuation[seen] = counts
        self.unigram = (1 - _UNIFORM_SHARE) * continuation / continuation.sum() + _UNIFORM_SHARE / v

    def probabilities(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        """P of each token from the third on, given the two before it: [n_tokens − 2]."""
        t = tokens.astype(np.int64)
        u, v, w = t[:-2], t[1:-1], t[2:]
        size = self.vocab_size
        bigram = _interpolate(
            _look_up(self.bigrams, self.bigram_types, v * size + w),
            _look_up(self.words, self.word_totals, v),
            _look_up(self.words, self.word_types, v),
            self.unigram[w],
        )
        return _interpolate(
            _look_up(self.trigrams, self.trigram_counts, (u * size + v) * size + w),
            _look_up(self.contexts, self.context_totals, u * size + v),
            _look_up(self.contexts, self.context_types, u * size + v),
            bigram,
        )

    def loss(self, tokens: NDArray[np.integer]) -> float:
        """Mean negative log-likelihood in nats a token."""
        return float(-np.log(self.probabilities(tokens)).mean())


def _interpolate(
    count: NDArray, total: NDArray, types: NDArray, lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    seen = np.maximum(total, 1)
    mixed = np.maximum(count - DISCOUNT, 0) / seen + DISCOUNT * types / seen * lower
    return np.where(total > 0, mixed, lower)


def _look_up(keys: NDArray, values: NDArray, wanted: NDArray) -> NDArray:
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
