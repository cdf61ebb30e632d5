"""Latents that resemble one: by the direction they write, in its SAE and in its family."""

from collections.abc import Sequence

import pandas as pd

from core.catalog.entries import SaeEntry
from core.engine import Engine
from core.splitting.decoders import decoders
from core.splitting.relatives import nearest_latents
from core.view.selection import Selection


def nearest(
    engine: Engine, selection: Selection, others: Sequence[SaeEntry] = (), *, k: int = 10
) -> pd.DataFrame:
    """The `k` latents of each SAE with the highest cosine of decoder directions.

    Args:
        selection: the latent; its own SAE is always looked at.
        others: further SAEs that write the same space.

    Returns:
        Rows of `release`, `sae_id`, `width`, `latent`, `cosine`: the latent's own SAE first, then
        narrow to wide, highest cosine first.

    Raises:
        ValueError: a latent without a direction, or SAEs that write different spaces.
    """
    names = [selection.sae, *(it.key for it in others if it.key != selection.sae)]
    labels = [f"{release} / {sae_id}" for release, sae_id in names]
    with engine.use(selection.model, names) as (_, saes):
        family = decoders({label: sae.W_dec for label, sae in zip(labels, saes, strict=True)})
        found = nearest_latents(family, labels[0], selection.latent, k=k)
    name_of = dict(zip(labels, names, strict=True))
    table = pd.DataFrame(
        {
            "release": [name_of[label][0] for label in found["sae"]],
            "sae_id": [name_of[label][1] for label in found["sae"]],
            "width": found["sae_width"].to_numpy(),
            "latent": found["latent_idx"].to_numpy(),
            "cosine": found["cosine"].to_numpy(),
        }
    )
    own = (found["relation"] == "same SAE").to_numpy()
    return pd.concat([table[own], table[~own]], ignore_index=True)
