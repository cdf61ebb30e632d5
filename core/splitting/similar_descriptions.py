"""Which descriptions of the other SAEs read like this latent's?

By the words they share (TF-IDF), which needs nothing; or by embeddings, where they were computed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

_WORD = r"(?u)[^\W_][\w.]*[^\W_]|[^\W_]|[^\w\s]+"
"""Words, names like `np.array`, and runs of signs: descriptions of code are full of them."""


def similar_descriptions(
    query: str,
    descriptions: Mapping[str, Sequence[str]],
    *,
    k: int = 20,
    min_similarity: float = 0.1,
    query_embedding: Float[np.ndarray, " d"] | None = None,
    embeddings: Mapping[str, Float[np.ndarray, "d_sae d"]] | None = None,
) -> pd.DataFrame:
    """The latents whose description is most like `query`, in each SAE.

    Args:
        query: a description, or any words.
        descriptions: for each SAE one text a latent, empty or not a string where there is none.
        k: how many to return of each SAE.
        min_similarity: the lowest similarity worth listing.
        query_embedding: embedding of the query; with `embeddings`, used in place of TF-IDF.
        embeddings: for each SAE one row a latent.

    Returns:
        Rows of `sae`, `latent_idx`, `description`, `similarity` (cosine, 0 to 1 for TF-IDF),
        `measure` ("words" or "embedding") and `n_described` (latents of the SAE that have a
        description), SAE after SAE, highest first. Latents without a description are never listed.

    Raises:
        ValueError: an empty query, or embeddings that do not fit the descriptions.
    """
    if not query.strip():
        raise ValueError("There is no description to compare with; choose a latent that has one.")
    texts = {
        label: [text if isinstance(text, str) else "" for text in given]
        for label, given in descriptions.items()
    }
    if query_embedding is not None and embeddings is not None:
        measure = "embedding"
        similarities = _by_embedding(query_embedding, embeddings, texts)
    else:
        measure = "words"
        similarities = _by_words(query, texts)
    tables = [_empty()]
    for label, values in similarities.items():
        described = np.array([bool(text.strip()) for text in texts[label]], dtype=bool)
        values = np.where(described, values, -np.inf)
        best = np.argsort(-values, kind="stable")[:k]
        best = best[values[best] >= min_similarity]
        columns = {
            "sae": label,
            "latent_idx": best,
            "description": [texts[label][i] for i in best],
            "similarity": values[best],
            "measure": measure,
            "n_described": int(described.sum()),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _by_words(
    query: str, texts: Mapping[str, Sequence[str]]
) -> dict[str, Float[np.ndarray, " d_sae"]]:
    everything = [text for given in texts.values() for text in given]
    # Rare words tell most; how often a word is repeated in so short a text tells little.
    vectorizer = TfidfVectorizer(
        token_pattern=_WORD, ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32
    )
    try:
        matrix = vectorizer.fit_transform([query, *everything])
    except ValueError:  # no word at all
        return {label: np.zeros(len(given), np.float32) for label, given in texts.items()}
    similarities = (matrix[1:] @ matrix[0].T).toarray()[:, 0]
    ends = np.cumsum([len(given) for given in texts.values()])[:-1]
    return dict(zip(texts, np.split(similarities, ends), strict=True))


def _by_embedding(
    query: Float[np.ndarray, " d"],
    embeddings: Mapping[str, Float[np.ndarray, "d_sae d"]],
    texts: Mapping[str, Sequence[str]],
) -> dict[str, Float[np.ndarray, " d_sae"]]:
    similarities = {}
    for label, given in texts.items():
        rows = embeddings.get(label)
        if rows is None or rows.shape != (len(given), len(query)):
            raise ValueError(
                f"The embeddings of {label} are {None if rows is None else rows.shape}, not "
                f"{(len(given), len(query))}; give a row for each latent."
            )
        similarities[label] = normalize(rows) @ normalize(query[None])[0]
    return similarities


def _empty() -> pd.DataFrame:
    kinds = {"sae": str, "latent_idx": "int64", "description": str, "similarity": "float32"}
    kinds |= {"measure": str, "n_described": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
