"""Where do the latents of a wide SAE lie around the narrow one's that they split from?

- `view`, `members`: what a link carries, and which SAEs can share a map
- `rows`, `neighbors`, `layout`, `map`: directions, exact neighbours, UMAP and HDBSCAN, a map of all
- `map_data`, `text_evidence`: what the page's jobs make: a map with its tokens, what fires where
- `decoders`, `relatives`, `cofiring`, `firing_children`, `tree`, `new_latents`: who split from whom
- `clusters`, `similar_descriptions`: what groups and latents are about
- `figure`, `map_traces`, `tree_figure`, `hover`, `colors`, `selection`, `visible`: drawing
- `arena`: ARENA's function
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.splitting.arena import compute_sae_umap_data

__all__ = ["compute_sae_umap_data"]
__getattr__ = lazily(__name__, {"compute_sae_umap_data": "arena"})
