"""One pass over a corpus, and every latent of every SAE can be looked at.

    token_set = load_token_set(docs_sample(), model.tokenizer, default_packing(model, sae))
    index, = build_index(model, [sae], token_set, progress=progress)
    shown = latent_examples(index, 42, token_set)
    firings = collect_firings(PlainLease(model, saes), token_set, max_tokens=50_000)

An activation above 0 at a position that counts is a *firing*. A position is told by its *place* in
the token set: row · context + position.
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # imported when first used: pages are drawn before torch is there
    from core.activations.bins import bin_edges
    from core.activations.build import build_index, build_statistics, shard_rows
    from core.activations.config import IndexConfig
    from core.activations.examples import (
        Band,
        Examples,
        LatentExamples,
        collect_latent_examples,
        latent_examples,
        row_activations,
    )
    from core.activations.firings import Firings, collect_firings
    from core.activations.index import LatentIndex, finish
    from core.activations.statistics import LatentStatistics, merge
    from core.activations.stored_index import (
        index_key,
        open_index,
        open_part,
        open_summary,
        save_index,
    )

__all__ = [
    "Band",
    "Examples",
    "Firings",
    "IndexConfig",
    "LatentExamples",
    "LatentIndex",
    "LatentStatistics",
    "bin_edges",
    "build_index",
    "build_statistics",
    "collect_firings",
    "collect_latent_examples",
    "finish",
    "index_key",
    "latent_examples",
    "merge",
    "open_index",
    "open_part",
    "open_summary",
    "row_activations",
    "save_index",
    "shard_rows",
]
__getattr__ = lazily(
    __name__,
    {
        "Band": "examples",
        "Examples": "examples",
        "Firings": "firings",
        "IndexConfig": "config",
        "LatentExamples": "examples",
        "LatentIndex": "index",
        "LatentStatistics": "statistics",
        "bin_edges": "bins",
        "build_index": "build",
        "build_statistics": "build",
        "collect_firings": "firings",
        "collect_latent_examples": "examples",
        "finish": "index",
        "index_key": "stored_index",
        "latent_examples": "examples",
        "merge": "statistics",
        "open_index": "stored_index",
        "open_part": "stored_index",
        "open_summary": "stored_index",
        "row_activations": "examples",
        "save_index": "stored_index",
        "shard_rows": "build",
    },
)
