"""Search by meaning among texts: told by an embedding service where one is given, else by the
selected model's own embeddings."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import job_results, people

if TYPE_CHECKING:
    from core.description_search.find import Found
    from core.embeddings import EmbeddingEndpoint


def by_meaning(
    texts: Callable[[], Sequence[str]], query: str, *, selection: Selection, key: str
) -> "Found | None":
    """Texts closest to `query` in meaning, or None while they are looked for, which is shown.

    `key` names the texts, which are asked for when they are needed.
    """
    from core.embeddings import EmbeddingEndpoint

    endpoint = EmbeddingEndpoint.from_environment()
    if endpoint is not None:
        return _by_service(endpoint, texts, query, key=key)
    return _by_model(texts, query, selection=selection, key=key)


def said(found: "Found", query: str) -> None:
    """How similar texts at random are, without which no similarity can be read."""
    if found.typical is None or found.random is None:
        return
    (middle, high), (pair, high_pair) = found.typical, found.random
    st.caption(
        f"To “{escape_markdown(query)}” a description at random has a similarity of "
        f"{_plain(middle)} "
        f"(median; 95 % are below {_plain(high)}); two descriptions at random have "
        f"{_plain(pair)} to each other (95 % below {_plain(high_pair)}). “closer than” is "
        "the share of such random pairs that are less alike; below 95 % nothing is listed."
    )


def _plain(value: float) -> str:
    """Two decimals, and no sign before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _by_model(
    texts: Callable[[], Sequence[str]], query: str, *, selection: Selection, key: str
) -> "Found | None":
    from core.description_search.find import by_similarity
    from core.description_search.meaning import meaning_space, question

    people.require_text(query, "")
    engine, recent = resources.engine(), resources.recent()
    place = f"find-space:{key}"

    def search(progress: Any) -> "Found":
        lease = engine.lease(selection.model, [selection.sae], progress=progress)
        space = recent.get(place)
        if space is None:
            space = meaning_space(lease, texts())
            recent.put(place, space)
        return by_similarity(space.similarities(question(lease, space, query)), space.random_pairs)

    found: Found | None = job_results.recent_result(
        f"find-meaning:{key}:{hash(query)}", "Descriptions by meaning", search, wait=1.5
    )
    return found


def _by_service(
    endpoint: "EmbeddingEndpoint", texts: Callable[[], Sequence[str]], query: str, *, key: str
) -> "Found | None":
    import numpy as np

    from core.description_search.find import by_similarity
    from core.description_search.meaning import random_pairs
    from core.embeddings import embed

    person, store = people.current(), resources.store()
    payer = None if person.local else resources.desk().purse(person, endpoint.model)

    def search(progress: Any) -> "Found":
        matrix = embed(texts(), endpoint=endpoint, store=store, progress=progress, payer=payer)
        (wanted,) = embed([query], endpoint=endpoint, store=store, progress=progress, payer=payer)
        usable = matrix.any(axis=1)
        similarities = np.where(usable, matrix @ wanted, -1.0)
        null = random_pairs(np.flatnonzero(usable), lambda chosen: matrix[chosen])
        return by_similarity(similarities, null)

    found: Found | None = job_results.recent_result(
        f"meaning:{endpoint.url}:{endpoint.model}:{key}:{hash(query)}",
        "Descriptions by meaning",
        search,
    )
    return found
