"""What is in each cluster? Its size, which SAEs it is made of, and the terms that set it apart.

Terms are ranked by c-TF-IDF: a cluster is one document, and a term weighs its count there times
log(1 + terms in a cluster on average / its count in all) (Grootendorst, "BERTopic", 2022, 3.3).
That alone favours whatever was seen once and nowhere else, so terms that no two latents of the
cluster share come after those that some do, and do not make a name while there are others.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from core.splitting.map import SplittingMap
from core.view.markup import visible_character

_WORD = re.compile(r"[\w+#]+(?:[.'’/-][\w+#]+)*")
"""Words as people and programs write them: `torch.nn`, `__init__`, `c++`, `re-run`, `don't`."""
_FUNCTION_WORDS = frozenset(
    re.split(
        r"\s+",
        "a an and are as at be but by for from has have if in into is it its like not of on or "
        "other s such t than that the their then there these they this to was were when which "
        "while with within",
    )
)
N_TERMS = 8
"""Words listed for each cluster."""
N_LABEL_TERMS = 3
"""Words in a cluster's label."""


@dataclass(frozen=True)
class TokenIds:
    """Tokens of each point by their ids: of very many points their texts take long to count."""

    ids: Int[np.ndarray, "n k"]
    """Ids."""
    texts: Sequence[str]
    """Of each id."""

    def __len__(self) -> int:
        return len(self.ids)


def cluster_table(
    found: SplittingMap,
    descriptions: Sequence[str | Sequence[str]] | None = None,
    tokens: "Sequence[Sequence[str]] | TokenIds | None" = None,
) -> pd.DataFrame:
    """One row a cluster, the largest first.

    Columns: `cluster`, `size`, `composition` ("256: 3, 1024: 9"), `compactness` (mean cosine with
    the mean direction), `medoid` (row of `found.points`), `medoid_sae`, `medoid_latent`, `terms`
    (words of the descriptions), `tokens` (boosted tokens), both as one text, and `label`.

    Args:
        found: a map with clusters.
        descriptions: of each point, in the order of `found.points`; "" where there is none. A text
            is taken word by word; a list holds the terms themselves.
        tokens: boosted tokens of each point, in that order, as texts or as ids.

    Raises:
        ValueError: a map without clusters, or texts that are not one a point.
    """
    labels = _labels(found)
    for name, texts in (("descriptions", descriptions), ("tokens", tokens)):
        if texts is not None and len(texts) != len(labels):
            raise ValueError(f"{len(texts)} {name} are given for {len(labels)} points of the map.")
    composition = cluster_composition(found)
    numbers = composition.index.to_numpy()
    words = None
    if descriptions is not None:
        words = [_words(text) if isinstance(text, str) else text for text in descriptions]
    terms = _top_terms(labels, words)
    if isinstance(tokens, TokenIds):
        token_terms = _top_tokens(labels, tokens)
    else:
        parts = [_token_terms(row) for row in tokens] if tokens is not None else None
        token_terms = _top_terms(labels, parts)
    table = pd.DataFrame(
        {
            "cluster": numbers.astype(np.int64),
            "size": composition.sum(axis=1).to_numpy(dtype=np.int64),
            "composition": [_counts_text(row) for _, row in composition.iterrows()],
        }
    )
    if found.clusters is not None:
        medoids = found.clusters.medoids[numbers]
        table["compactness"] = found.clusters.compactness[numbers]
        table["medoid"] = medoids.astype(np.int64)
        table["medoid_sae"] = found.points["sae"].astype("str").to_numpy()[medoids]
        table["medoid_latent"] = found.points["latent_idx"].to_numpy()[medoids]
    texts = [", ".join(terms[number].ranked) for number in numbers]
    table["terms"] = pd.Series(texts, dtype="str")
    texts = [" ".join(token_terms[number].ranked) for number in numbers]
    table["tokens"] = pd.Series(texts, dtype="str")
    texts = [_label(number, terms[number], token_terms[number]) for number in numbers]
    table["label"] = pd.Series(texts, dtype="str")
    return table.sort_values(["size", "cluster"], ascending=[False, True], ignore_index=True)


def cluster_composition(found: SplittingMap) -> pd.DataFrame:
    """Latents of each SAE (columns, by label) in each cluster (index); noise is left out."""
    labels = _labels(found)
    inside = labels >= 0
    codes = found.points["sae"].cat.codes.to_numpy()[inside]
    names = list(found.points["sae"].cat.categories)
    counts = np.zeros((labels.max(initial=-1) + 1, len(names)), dtype=np.int64)
    np.add.at(counts, (labels[inside], codes), 1)
    return pd.DataFrame(counts, columns=names)


def cluster_labels(
    found: SplittingMap, table: pd.DataFrame, *, n_largest: int = 40
) -> pd.DataFrame:
    """Where to write the labels of the largest clusters in `table`, as `cluster_table` gives it.

    Columns, largest first: `x`, `y`, `text`, `cluster`, `size`. Each stands at one of its latents,
    the one nearest to the median of them all: a cluster of the 10-dimensional layout may lie in
    several places on the map, with nothing in between.
    """
    labels = _labels(found)
    xy = found.points[["umap_x", "umap_y"]].to_numpy(dtype=np.float64)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    largest = table.nlargest(n_largest, "size")
    places = np.empty((len(largest), 2))
    for place, number in zip(places, largest["cluster"].tolist(), strict=True):
        members = xy[order[starts[number] : starts[number + 1]]]
        offsets = members - np.median(members, axis=0)
        place[:] = members[np.square(offsets).sum(axis=1).argmin()]
    written = largest[["label", "cluster", "size"]].rename(columns={"label": "text"})
    written.insert(0, "x", places[:, 0])
    written.insert(1, "y", places[:, 1])
    return written.reset_index(drop=True)


def noise_share(found: SplittingMap) -> float:
    """Share of the points that are in no cluster, 0 to 1. Raises `ValueError` without clusters."""
    labels = _labels(found)
    return float((labels < 0).mean()) if len(labels) else 0.0


def _labels(found: SplittingMap) -> Int[np.ndarray, " n"]:
    if "cluster" not in found.points:
        raise ValueError("The map has no clusters; compute it with MapConfig(clusters=True).")
    return found.points["cluster"].to_numpy()


def _words(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [word for word in words if word not in _FUNCTION_WORDS and not word.isdigit()]


def _token_terms(tokens: Iterable[str]) -> set[str]:
    """Each token once a latent, without case and space: ` The` and `the` are one word here."""
    return {token.strip().lower() for token in tokens} - {""}


@dataclass(frozen=True)
class _Terms:
    """The most telling terms of a cluster."""

    ranked: tuple[str, ...] = ()
    n_shared: int = 0
    """So many of them, the first, are shared by latents of the cluster."""


def _top_terms(
    labels: Int[np.ndarray, " n"], texts: Sequence[Iterable[str]] | None
) -> list[_Terms]:
    """Of each cluster, its terms by c-TF-IDF, the most telling first."""
    n_clusters = int(labels.max(initial=-1)) + 1
    documents: list[list[str]] = [[] for _ in range(n_clusters)]
    sharing: list[Counter[str]] = [Counter() for _ in range(n_clusters)]
    if texts is not None:
        for label, text in zip(labels.tolist(), texts, strict=True):
            if label >= 0:
                terms = list(text)
                documents[label].extend(terms)
                sharing[label].update(set(terms))
    if not any(documents):
        return [_Terms()] * n_clusters
    counter = CountVectorizer(analyzer=_as_it_is)
    counts = counter.fit_transform(documents).tocsr()
    names = counter.get_feature_names_out()

    def alone(number: int, columns: np.ndarray) -> np.ndarray:
        return np.array([sharing[number][str(names[term])] < 2 for term in columns], dtype=bool)

    return _ranked(counts, names, alone)


def _top_tokens(labels: Int[np.ndarray, " n"], tokens: TokenIds) -> list[_Terms]:
    """As `_top_terms` of the tokens' texts: each counts once a latent."""
    n_clusters = int(labels.max(initial=-1)) + 1
    cleaned = [text.strip().lower() for text in tokens.texts]
    names = np.array([*sorted({*cleaned} - {""}), None], dtype=object)[:-1]
    number_of = {name: number for number, name in enumerate(names)}
    numbers = np.array([number_of.get(text, -1) for text in cleaned])
    inside = labels >= 0
    terms = np.sort(numbers[tokens.ids[inside]], axis=1)
    is_new = terms >= 0
    is_new[:, 1:] &= terms[:, 1:] != terms[:, :-1]
    cluster = np.broadcast_to(labels[inside][:, None], terms.shape)[is_new]
    if not len(cluster):
        return [_Terms()] * n_clusters
    used, columns = np.unique(terms[is_new], return_inverse=True)
    shape = n_clusters, len(used)
    counts = csr_array((np.ones(len(cluster)), (cluster, columns)), shape=shape)
    counts.sum_duplicates()

    def alone(number: int, columns: np.ndarray) -> np.ndarray:
        row = slice(counts.indptr[number], counts.indptr[number + 1])
        return counts.data[row][np.searchsorted(counts.indices[row], columns)] < 2

    return _ranked(counts, names[used], alone)


def _ranked(
    counts: csr_array, names: np.ndarray, alone: Callable[[int, np.ndarray], np.ndarray]
) -> list[_Terms]:
    """The terms of each cluster (row); `alone` tells which of some no two latents share."""
    n_clusters = counts.shape[0]
    rarity = np.log1p(counts.sum() / n_clusters / np.asarray(counts.sum(axis=0)).ravel())
    weights = counts.multiply(rarity[None, :]).tocsr()
    top = []
    for number in range(n_clusters):
        row = slice(weights.indptr[number], weights.indptr[number + 1])
        columns, values = weights.indices[row], weights.data[row]
        is_alone = alone(number, columns)
        # Equal weights in the order of the alphabet, so that the same map reads the same.
        best = np.lexsort((columns, -values, is_alone))[:N_TERMS]
        ranked = tuple(str(names[column]) for column in columns[best])
        top.append(_Terms(ranked, int((~is_alone[best]).sum())))
    return top


def _as_it_is(words: list[str]) -> list[str]:
    return words


def _counts_text(row: "pd.Series[int]") -> str:
    return ", ".join(f"{name}: {count}" for name, count in row.items() if count)


def _label(number: int, terms: _Terms, tokens: _Terms) -> str:
    """The cluster's name: what its latents share, else what they boost, else any of their terms."""
    named = terms.ranked[: terms.n_shared][:N_LABEL_TERMS]
    if named:
        return ", ".join(map(_printed, named))
    boosted = tokens.ranked[: tokens.n_shared][:N_LABEL_TERMS]
    if boosted:
        return "boosts " + ", ".join(map(_printed, boosted))
    others = (terms.ranked or tokens.ranked)[:N_LABEL_TERMS]
    return ", ".join(map(_printed, others)) or f"cluster {number}"


def _printed(term: str) -> str:
    return "".join(map(visible_character, term))
