"""Texts as vectors from an OpenAI-compatible service, each paid for once; search by meaning.

    endpoint = EmbeddingEndpoint.from_environment()
    matrix = embed(descriptions, endpoint=endpoint, store=store, progress=job.progress)
    ids, similarities = semantic_search(embed(["dates"], endpoint=endpoint, store=store)[0], matrix)

The key is given to the client and to nothing else: no repr, stored entry, log line or error message
contains it.
"""

from core.embeddings.endpoint import EmbeddingEndpoint, EmbeddingError
from core.embeddings.search import semantic_search, unit_rows
from core.embeddings.vectors import embed

__all__ = ["EmbeddingEndpoint", "EmbeddingError", "embed", "semantic_search", "unit_rows"]
