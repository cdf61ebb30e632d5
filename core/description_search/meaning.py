"""How alike in meaning are a question and each of many texts, with nothing but the model at hand?

A text is the sum of its words' vectors, rarer words counting more (inverse document frequency), and
what all texts have in common is taken off (as in Arora, Liang and Ma 2017, "A simple but tough to
beat baseline for sentence embeddings"). A word's vector is the mean of the model's own embeddings
of its tokens: models give words that are used alike similar embeddings. It is a poorer measure than
that of a trained embedding model, and needs neither a network nor another model.

Every similarity stands beside those of random pairs of the texts, which alone tell what is much.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix

from core.embeddings import unit_rows
from core.jobs.progress import Progress
from core.lease import Lease

_WORD = re.compile(r"[^\W_]+|[^\w\s]+")
_CHUNK = 20_000
"""Texts whose vectors are held at a time."""
_PAIRS = 20_000
"""Random pairs of texts."""


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, and its runs of signs."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, eq=False)
class MeaningSpace:
    """Texts as sums of words, whose vectors are the model's."""

    words: dict[str, int]
    """Rows of `vectors` by word."""
    vectors: Float[np.ndarray, "n_words d"]
    """Unit vectors of the words."""
    weights: Float[np.ndarray, " n_words"]
    """How much a word counts: the logarithm of one over the share of texts that hold it."""
    texts: csr_matrix
    """`[n_texts, n_words]`: weights of the words that are in each text."""
    common: Float[np.ndarray, " d"]
    """Mean of the texts' unit vectors."""
    lengths: Float[np.ndarray, " n_texts"]
    """Length of each text's sum of words."""
    centred_lengths: Float[np.ndarray, " n_texts"]
    """Length of each text's unit vector without what is common; 0 for texts without a word."""

    def similarities(self, query: Float[np.ndarray, " d"]) -> Float[np.ndarray, " n_texts"]:
        """Cosine of each text with a unit vector without what is common; -1 for blank texts."""
        along = self.texts @ (self.vectors @ query)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines = (along / self.lengths - self.common @ query) / self.centred_lengths
        return np.where(self.centred_lengths > 0, cosines, -1.0)

    def rows(self, chosen: Sequence[int] | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Unit vectors of some texts, without what is common."""
        return unit_rows(unit_rows(self.texts[chosen] @ self.vectors) - self.common)

    @cached_property
    def random_pairs(self) -> Float[np.ndarray, " m"]:
        """Similarities of random pairs of texts, ascending: the null distribution."""
        usable = np.flatnonzero(self.centred_lengths > 0)
        return random_pairs(usable, self.rows)


def random_pairs(
    usable: np.ndarray, rows: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, " m"]:
    """Cosines of 20,000 random pairs among `usable` texts, ascending; `rows` gives unit vectors.

    The same texts give the same pairs. Fewer than two texts have none.
    """
    if len(usable) < 2:
        return np.zeros(0, dtype=np.float32)
    generator = np.random.default_rng(0)
    first = generator.integers(len(usable), size=_PAIRS)
    second = (first + generator.integers(1, len(usable), size=_PAIRS)) % len(usable)
    found = [
        (rows(usable[first[at : at + 2000]]) * rows(usable[second[at : at + 2000]])).sum(1)
        for at in range(0, _PAIRS, 2000)
    ]
    return np.sort(np.concatenate(found))


def meaning_space(lease: Lease, texts: Sequence[str]) -> MeaningSpace:
    """The space of some texts, with the embeddings of the lease's model.

    300,000 texts of 10 words take some seconds. Progress counts texts.

    Raises JobCancelled through the lease's progress.
    """
    counts = [Counter(words_of(text)) for text in texts]
    document_frequency: Counter[str] = Counter()
    for count in counts:
        document_frequency.update(count.keys())
    words = {word: number for number, word in enumerate(document_frequency)}
    n = max(1, len(texts))
    weights = np.array([np.log(n / document_frequency[word]) for word in words], np.float32)
    vectors = word_vectors(lease, list(words))
    columns = [words[word] for count in counts for word in count]
    ends = np.cumsum([0, *map(len, counts)])
    matrix = csr_matrix((weights[columns], columns, ends), shape=(len(texts), len(words)))
    lengths, common = np.zeros(len(texts), np.float32), np.zeros(vectors.shape[1], np.float64)
    for first, dense in _chunks(matrix, vectors, lease.progress):
        lengths[first : first + len(dense)] = np.linalg.norm(dense, axis=1)
        common += unit_rows(dense).sum(0)
    mean = (common / max(1, int((lengths > 0).sum()))).astype(np.float32)
    centred = np.zeros(len(texts), np.float32)
    for first, dense in _chunks(matrix, vectors, lease.progress):
        found = np.linalg.norm(unit_rows(dense) - mean, axis=1)
        centred[first : first + len(dense)] = np.where(dense.any(axis=1), found, 0.0)
    return MeaningSpace(words, vectors, weights, matrix, mean, lengths, centred)


def question(lease: Lease, space: MeaningSpace, text: str) -> Float[np.ndarray, " d"]:
    """The unit vector of what is searched for, without what is common to the texts.

    Words that no text holds count as the rarest.

    Raises ValueError for a text without a word.
    """
    words = list(dict.fromkeys(words_of(text)))
    if not words:
        raise ValueError("There is no word in the search; type what the latents should be about.")
    rarest = float(np.log(max(2, space.texts.shape[0])))
    weights = [
        float(space.weights[space.words[word]]) if word in space.words else rarest for word in words
    ]
    vector = np.array(weights, np.float32) @ word_vectors(lease, words)
    return unit_rows(unit_rows(vector[None]) - space.common)[0]


def word_vectors(lease: Lease, words: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """A unit vector for each word: the mean of its tokens' embeddings, as the model reads it after
    a space or at the beginning of a text, whichever takes fewer tokens; the mean of the vocabulary
    is taken off."""
    tokenizer = lease.tokenizer
    tokens: list[list[int]] = []
    for word in words:
        ways = [tokenizer.encode(form, add_special_tokens=False) for form in (f" {word}", word)]
        tokens.append(min(ways, key=len))
    flat = np.array([token for ids in tokens for token in ids], dtype=np.int64)
    used, places = np.unique(flat, return_inverse=True)
    with lease.turn() as (model, _), torch.no_grad():
        table = model.W_E
        inside = torch.from_numpy(used.clip(max=table.shape[0] - 1)).to(table.device)
        mean = table.mean(0, dtype=torch.float32)
        rows = (table[inside].float() - mean).cpu().numpy()
    ends = np.cumsum([0, *map(len, tokens)])
    belongs = csr_matrix(
        (np.ones(len(flat), np.float32), places, ends), shape=(len(words), len(used))
    )
    return unit_rows(belongs @ unit_rows(rows))


def _chunks(
    matrix: csr_matrix, vectors: Float[np.ndarray, "n_words d"], progress: Progress
) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, matrix.shape[0], _CHUNK):
        progress.update(first, matrix.shape[0], unit="texts", message="Comparing meanings")
        yield first, np.asarray(matrix[first : first + _CHUNK] @ vectors)
