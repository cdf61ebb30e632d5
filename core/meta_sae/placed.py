"""Where does each latent of one SAE lie on a map? For colours by meta-latent."""

from typing import TYPE_CHECKING

from core.splitting.fits import Fit
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from core.lease import Lease


def place_latents(lease: "Lease", store: Store, fit: Fit) -> "pd.DataFrame":
    """`latent_idx`, `umap_x` and `umap_y` of the latents of the lease's first SAE: the map that
    the splitting page draws of this SAE alone, kept with it. Raises ValueError for too few."""
    with lease.turn() as (_, (sae, *_)):
        rows = decoder_rows([LabelledSae("this SAE", sae)])
    n = len(rows)
    config = MapConfig() if n > MapConfig().n_neighbors else MapConfig(n_neighbors=max(2, n - 1))
    found = compute_map(rows, config, store=store, fit=fit, progress=lease.progress)
    return found.points[["latent_idx", "umap_x", "umap_y"]]
