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
    from core.activations.build import build_index, build_states, shard_rows
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
    from core.activations.keep import index_key, open_index, open_part, open_summary, save_index
    from core.activations.state import IndexState, merge

__all__ = [
    "Band",
    "Examples",
    "Firings",
    "IndexConfig",
    "IndexState",
    "LatentExamples",
    "LatentIndex",
    "bin_edges",
    "build_index",
    "build_states",
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
        "IndexState": "state",
        "LatentExamples": "examples",
        "LatentIndex": "index",
        "bin_edges": "bins",
        "build_index": "build",
        "build_states": "build",
        "collect_firings": "firings",
        "collect_latent_examples": "examples",
        "finish": "index",
        "index_key": "keep",
        "latent_examples": "examples",
        "merge": "state",
        "open_index": "keep",
        "open_part": "keep",
        "open_summary": "keep",
        "row_activations": "examples",
        "save_index": "keep",
        "shard_rows": "build",
    },
)
