"""What of all descriptions holds some words, matches a pattern, or means the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.catalog.entries import SaeEntry
from core.description_search.gather import Gathered
from core.descriptions.search import search_texts

MOST_BY_MEANING = 200
"""Texts that a search by meaning lists at most."""
LEAST_CLOSER = 0.95
"""Share of random pairs of texts that must be less alike for one to be listed."""


@dataclass(frozen=True, eq=False)
class Found:
    """Texts that a search has found, the best first."""

    rows: Int[np.ndarray, " k"]
    """Their places among the texts that were searched."""
    similarity: Float[np.ndarray, " k"] | None = None
    """Cosine with what was searched for; None for searches by words."""
    closer: Float[np.ndarray, " k"] | None = None
    """Share of random pairs of texts that are less alike."""
    typical: tuple[float, float] | None = None
    """Median and 95th percentile of the similarity of what was searched for with all texts."""
    random: tuple[float, float] | None = None
    """The same of random pairs of texts."""


def by_words(texts: Sequence[str], query: str) -> Found:
    """Texts in which every word of the query occurs, in whichever order, without regard to case.

    Those in which all are whole words come first. Raises ValueError for a query without a word.
    """
    words = query.split()
    if not words:
        raise ValueError("The search is empty; type a word.")
    found = np.ones(len(texts), dtype=bool)
    for word in words:
        found[found] = search_texts([texts[int(row)] for row in np.flatnonzero(found)], word)
    rows = np.flatnonzero(found)
    partial = [not _has_whole(texts[int(row)], words) for row in rows]
    return Found(rows[np.argsort(np.asarray(partial, dtype=np.int8), kind="stable")])


def by_pattern(texts: Sequence[str], pattern: str) -> Found:
    """Texts that match a regular expression of RE2, without regard to case.

    Raises ValueError for what is none, or takes too long, with the remedy.
    """
    return Found(np.flatnonzero(search_texts(texts, pattern, regex=True)))


def by_similarity(similarities: Float[np.ndarray, " n"], random: Float[np.ndarray, " m"]) -> Found:
    """The texts most similar to what was searched for, if they are more so than random pairs are.

    Args:
        similarities: of each text with what was searched for; below -0.99 for those that have none.
        random: those of random pairs of texts, ascending.
    """
    known = similarities[similarities > -0.99]
    closer = np.searchsorted(random, similarities) / max(1, len(random))
    order = np.argsort(-similarities, kind="stable")[:MOST_BY_MEANING]
    rows = order[closer[order] >= LEAST_CLOSER]
    return Found(
        rows,
        similarities[rows],
        closer[rows],
        typical=_percentiles(known),
        random=_percentiles(random),
    )


def table_of(gathered: Gathered, found: Found) -> pd.DataFrame:
    """The texts found, a line each: `latent`, `layer`, `SAE`, `description`, `said by`, `score`,
    for searches by meaning `similarity` and `closer than`, and `release`."""
    rows = found.rows
    entries = [gathered.covered[number].entry for number in gathered.sae[rows]]
    columns = {
        "latent": gathered.latent[rows],
        "description": gathered.texts[rows],
        "layer": pd.array([entry.layer for entry in entries], dtype="Int64"),
        "SAE": [entry.sae_id for entry in entries],
        "said by": gathered.said_by[rows],
        "score": gathered.scores[rows],
    }
    if found.similarity is not None and found.closer is not None:
        columns |= {"similarity": found.similarity, "closer than": found.closer}
    return pd.DataFrame({**columns, "release": [entry.release for entry in entries]})


def target(gathered: Gathered, found: Found, line: int) -> tuple[SaeEntry, int]:
    """SAE and latent of a line of the table."""
    row = int(found.rows[line])
    return gathered.covered[int(gathered.sae[row])].entry, int(gathered.latent[row])


def _has_whole(text: str, words: Sequence[str]) -> bool:
    folded = f" {text.casefold()} "
    return all(_is_whole(folded, word.casefold()) for word in words)


def _is_whole(text: str, word: str) -> bool:
    at = text.find(word)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(word) : at + len(word) + 1]
        if not (before.isalnum() and word[0].isalnum()) and not (
            after.isalnum() and word[-1].isalnum()
        ):
            return True
        at = text.find(word, at + 1)
    return False


def _percentiles(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    if not len(values):
        return None
    middle, high = np.quantile(values, [0.5, 0.95])
    return float(middle), float(high)
