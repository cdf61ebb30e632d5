"""What are the latents of an SAE made of? A sparse dictionary of its decoder rows, beside nulls.

- `train`: a BatchTopK meta-SAE, in sparse steps; used with a fixed threshold
- `meta`: what comes out of it: each latent as a few meta-latents
- `nulls`: rows of the same covariance, and rows with permuted coordinates
- `stability`: do two seeds find the same meta-latents?
- `pursuit`: non-negative matching pursuit over a narrower SAE or the SAE's own other latents
- `measure`, `run`: all of it, under a lease and stored; `tables`, `words` and `figures` show it
- `edit`, `edit_run`: a latent's row with meta-latents scaled or swapped, and what the model does
- `placed`: where latents lie, for colours; `view`: what a link carries
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # they bring torch
    from core.meta_sae.config import PRESETS, MetaConfig
    from core.meta_sae.edit import EditEffect, edit_effect, edited_row
    from core.meta_sae.measure import Decompositions, decompositions
    from core.meta_sae.meta import MetaSae
    from core.meta_sae.pursuit import matching_pursuit
    from core.meta_sae.stability import matched_cosines
    from core.meta_sae.train import train_meta_sae

__all__ = [
    "PRESETS",
    "Decompositions",
    "EditEffect",
    "MetaConfig",
    "MetaSae",
    "decompositions",
    "edit_effect",
    "edited_row",
    "matched_cosines",
    "matching_pursuit",
    "train_meta_sae",
]
__getattr__ = lazily(
    __name__,
    {
        "PRESETS": "config",
        "Decompositions": "measure",
        "EditEffect": "edit",
        "MetaConfig": "config",
        "MetaSae": "meta",
        "decompositions": "measure",
        "edit_effect": "edit",
        "edited_row": "edit",
        "matched_cosines": "stability",
        "matching_pursuit": "pursuit",
        "train_meta_sae": "train",
    },
)
