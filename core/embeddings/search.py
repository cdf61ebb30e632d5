"""Search by meaning among unit vectors."""

import numpy as np
from jaxtyping import Float, Int


def unit_rows(matrix: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length 1, as float32; rows of zeros stay zeros."""
    rows = np.asarray(matrix, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def semantic_search(
    query_vector: Float[np.ndarray, " d"], matrix: Float[np.ndarray, "n d"], k: int = 20
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Rows of `matrix` most similar to the query, and their cosines, the most similar first.

    Args:
        query_vector: of length 1.
        matrix: unit rows; rows of zeros (texts that were blank) are never found.
        k: at most so many.

    Raises:
        ValueError: the vectors have different lengths, or k is not positive.
    """
    query = np.asarray(query_vector, dtype=np.float32)
    if matrix.ndim != 2 or query.shape != matrix.shape[1:]:
        raise ValueError(
            f"The query has the shape {query.shape} and the matrix {matrix.shape}; embed both with"
            " the same model."
        )
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one.")
    similarities = matrix.astype(np.float32, copy=False) @ query
    similarities[~matrix.any(axis=1)] = -np.inf
    order = np.argsort(-similarities, kind="stable")[:k]
    order = order[np.isfinite(similarities[order])]
    return order, similarities[order]
