"""Which latents of a wide SAE are new, that is without a relative in the narrow one?"""

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from core.jobs.progress import Progress
from core.splitting.cofiring import MIN_FIRINGS
from core.splitting.decoders import Decoder
from core.splitting.firing_children import DENSE, firing_parents
from core.splitting.firing_children import THRESHOLD as FIRING_THRESHOLD
from core.splitting.relatives import THRESHOLD, best_matches_table

_STRIP = 1024  # wide latents whose firings are compared at a time


def new_latents(
    narrow: Decoder,
    wide: Decoder,
    *,
    threshold: float = THRESHOLD,
    narrow_firings: csr_array | None = None,
    wide_firings: csr_array | None = None,
    firing_threshold: float = FIRING_THRESHOLD,
    min_firings: int = MIN_FIRINGS,
    max_frequency: float = DENSE,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Latents of `wide` whose direction is near none of `narrow`, and that fire with none.

    Args:
        narrow: the narrow SAE's decoder.
        wide: the wide one's.
        threshold: a latent with a higher cosine than this has a relative.
        narrow_firings: activations at some positions, `[n_positions, d_narrow]`.
        wide_firings: those of the wide SAE at the same ones. Without both, only the directions are
            compared.
        firing_threshold: a latent where whose firings one narrow latent fires with at least this
            probability has a relative.
        min_firings: latents that fire at fewer positions are left out: of too few firings nothing
            can be said, and dead latents are not new.
        max_frequency: narrow latents that fire on a larger share of positions are no relatives.
        progress: counts latents.

    Returns:
        Most frequent first (highest novelty first without firings): `latent_idx`; `match` and
        `cosine`, the narrow latent with the nearest direction; and with firings `n_firings`,
        `frequency` (share of positions), `firing_match` (-1: none) and `p_match_given_latent`, the
        narrow latent that is most likely to fire where this one does.

    Raises:
        ValueError: firings of only one SAE, or of other widths or positions.
    """
    _check(narrow, wide, narrow_firings, wide_firings)
    table = best_matches_table(wide, narrow, progress=progress)
    table = table[table["cosine"] < threshold].reset_index(drop=True)
    if narrow_firings is None or wide_firings is None:
        return table.sort_values("cosine", kind="stable", ignore_index=True)
    parts = []
    latents = table["latent_idx"].to_numpy(dtype=np.int64)
    for start in range(0, len(latents), _STRIP):
        chosen = latents[start : start + _STRIP]
        parts.append(
            firing_parents(narrow_firings, wide_firings, chosen, max_frequency=max_frequency)
        )
        if progress is not None:
            progress.update(
                start + len(chosen), len(latents), unit="latents", message="Comparing firings"
            )
    if not parts:
        parts = [firing_parents(narrow_firings, wide_firings, latents)]
    firing = pd.concat(parts, ignore_index=True).drop(columns="latent_idx")
    table = table.join(
        firing.rename(
            columns={"parent_idx": "firing_match", "p_parent_given_child": "p_match_given_latent"}
        )
    )
    table.insert(4, "frequency", table["n_firings"] / wide_firings.shape[0])
    is_new = (table["n_firings"] >= min_firings) & (
        table["p_match_given_latent"].fillna(0) < firing_threshold
    )
    return table[is_new].sort_values("frequency", ascending=False, kind="stable", ignore_index=True)


def _check(
    narrow: Decoder,
    wide: Decoder,
    narrow_firings: csr_array | None,
    wide_firings: csr_array | None,
) -> None:
    if (narrow_firings is None) != (wide_firings is None):
        raise ValueError("Firings of one SAE only; give those of both, or of neither.")
    if narrow_firings is None or wide_firings is None:
        return
    shapes = narrow_firings.shape, wide_firings.shape
    if shapes[0][0] != shapes[1][0] or (shapes[0][1], shapes[1][1]) != (narrow.width, wide.width):
        raise ValueError(
            f"Firings of shapes {shapes[0]} and {shapes[1]} for SAEs of {narrow.width} and "
            f"{wide.width} latents; collect both on the same positions."
        )
