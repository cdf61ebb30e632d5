"""Kinds of contexts among a latent's examples: texts that share words around the peak."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.latent.examples import ExampleRow

MOST_CLUSTERS = 4
_LEAST = 3


@dataclass(frozen=True)
class Cluster:
    """Examples whose texts are alike."""

    words: tuple[str, ...]
    """Words that stand in most of them and in few others."""
    rows: tuple[ExampleRow, ...]
    """The strongest of them."""
    n: int
    """How many there are."""
    strongest: float
    """Largest activation among them."""


def clusters_of(rows: Sequence[ExampleRow], *, most: int = MOST_CLUSTERS) -> tuple[Cluster, ...]:
    """The examples in up to `most` groups by the words of their texts, the largest first.

    The same text comes once. Fewer than six different texts make one group, or none.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    different = list({"".join(row.tokens): row for row in rows}.values())
    texts = ["".join(row.tokens) for row in different]
    if not different:
        return ()
    labels = np.zeros(len(different), dtype=int)
    vectors = None
    try:
        vectors = TfidfVectorizer(
            token_pattern=r"(?u)\b[^\W\d_]{2,}\b",
            sublinear_tf=True,
            stop_words=sorted(ENGLISH_STOP_WORDS),
        )
        matrix = np.asarray(vectors.fit_transform(texts).todense())
    except ValueError:  # no text has a word
        vectors = None
    if vectors is not None and len(different) >= 2 * _LEAST:
        n = min(most, len(different) // _LEAST)
        # Of rows of length 1, Ward's distances are those of the cosine; it makes no lone examples.
        labels = AgglomerativeClustering(n, linkage="ward").fit_predict(matrix)
    found = []
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        some = sorted((different[i] for i in chosen), key=_strength, reverse=True)
        words: tuple[str, ...] = ()
        if vectors is not None:
            names = vectors.get_feature_names_out()
            lift = matrix[chosen].mean(0) - (matrix.mean(0) if len(chosen) < len(labels) else 0)
            words = tuple(str(names[i]) for i in np.argsort(-lift)[:4] if lift[i] > 0)
        found.append(Cluster(words, tuple(some[:3]), len(chosen), _strength(some[0])))
    return tuple(sorted(found, key=lambda it: -it.n))


def _strength(row: ExampleRow) -> float:
    known = [it for it in row.activations if math.isfinite(it)]
    return max(known, default=0.0)
