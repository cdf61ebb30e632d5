"""Do the latents of a wide SAE sit around the narrow latent that they split from?

    rows = decoder_rows([LabelledSae("768", narrow), LabelledSae("3072", wide)])
    found = compute_map(rows, MapConfig(clusters=True), store=store, fit=worker.run)
    found.points            # one row a latent: its SAE, its index, where it lies, its cluster
    cluster_table(found, descriptions)

Names are imported when they are first used: the worker process that fits layouts comes by here on
its way to `core.splitting.layout`, and needs neither torch nor sae_lens.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.splitting.clusters import (
        cluster_composition,
        cluster_labels,
        cluster_table,
        noise_share,
    )
    from core.splitting.map import SplittingMap, compute_map, map_digest
    from core.splitting.map_config import MapConfig
    from core.splitting.neighbors import Neighbors, exact_neighbors
    from core.splitting.rows import DecoderRows, LabelledSae, decoder_rows
    from core.splitting.seed_api import compute_sae_umap_data
    from core.splitting.tokens import (
        TopTokens,
        all_directions,
        join_tokens,
        top_token_ids,
    )

_MODULE_OF = {
    "DecoderRows": "rows",
    "LabelledSae": "rows",
    "MapConfig": "map_config",
    "Neighbors": "neighbors",
    "SplittingMap": "map",
    "TopTokens": "tokens",
    "cluster_labels": "clusters",
    "cluster_table": "clusters",
    "compute_map": "map",
    "compute_sae_umap_data": "seed_api",
    "decoder_rows": "rows",
    "exact_neighbors": "neighbors",
    "map_digest": "map",
    "noise_share": "clusters",
    "join_tokens": "tokens",
    "all_directions": "tokens",
    "top_token_ids": "tokens",
    "cluster_composition": "clusters",
}

__all__ = [
    "DecoderRows",
    "LabelledSae",
    "MapConfig",
    "Neighbors",
    "SplittingMap",
    "TopTokens",
    "all_directions",
    "cluster_composition",
    "cluster_labels",
    "cluster_table",
    "compute_map",
    "compute_sae_umap_data",
    "decoder_rows",
    "exact_neighbors",
    "join_tokens",
    "map_digest",
    "noise_share",
    "top_token_ids",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
