"""Windows of a few latents by the index of all latents, without reading the whole text.

The index of `core.activations.text_index` keeps each latent's strongest place in each of its 20
strongest rows. Whatever is stronger than the weakest of these lies in these rows: run again, they
hold exactly the strongest windows, as many as are above that floor. Random windows lie in rows that
the seed tells. Where that is enough to explain and to score with, it is what reading everything
would find.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from core.activations.stored_index import index_key, open_part
from core.activations.text_index import CONFIG
from core.autointerp.collect import WindowCollector
from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import LatentWindows, is_enough
from core.autointerp.gather import gather_rows, lengths_read
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.store import Store

_MOST_OF_TEXT = 0.5
"""Share of the rows from which on reading everything is as quick."""
_ROUNDING = 1e-3
"""Relative difference that batches of other shapes may make to an activation."""


def windows_by_index(
    lease: Lease, store: Store, token_set: TokenSet, cfg: AutoInterpConfig, latents: Sequence[int]
) -> Mapping[int, LatentWindows] | None:
    """Windows of latents of the lease's SAE, of which the strongest are those of the whole text.

    Fewer spare windows may be kept than by reading everything. None where there is no index of
    this text, or it does not determine what explains and scores; then everything is to be read.

    Raises JobCancelled through the lease's progress.
    """
    lengths = lengths_read(token_set, cfg)
    if len(lengths) < token_set.n_rows or cfg.across_quantiles:
        return None
    key = index_key(
        model_fingerprint=lease.model_fingerprint,
        sae_fingerprint=lease.sae_fingerprints[0],
        tokens_digest=token_set.digest,
        config=CONFIG,
    )
    collector = WindowCollector(latents, cfg, lengths)
    rows = set(collector.random_rows.tolist())
    floors: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for latent in latents:
        part = open_part(store, key, latent)
        if part is None:
            return None
        own = latent - part.first_latent
        places, values = part.top_places[own], part.top_values[own]
        is_kept = places >= 0
        rows.update((places[is_kept] // token_set.context).tolist())
        # A latent that fires in fewer rows has all of them there.
        floors[latent] = float(values[is_kept].min()) if is_kept.all() else 0.0
        peaks[latent] = float(part.peak[own])
    if len(rows) > _MOST_OF_TEXT * token_set.n_rows:
        return None
    for batch in gather_rows(lease, token_set, cfg, latents, np.array(sorted(rows))):
        collector.add(*batch)
    found = {}
    for latent, windows in collector.result().items():
        top, floor = windows.top, floors[latent]
        sure = top.take(np.flatnonzero(top.acts[:, cfg.buffer] > floor * (1 + _ROUNDING)))
        exact = top if floor == 0 else sure
        # The largest activation sets the threshold; it may stand beside a window's middle.
        seen = float(exact.acts.max(initial=0))
        if seen < peaks[latent] * (1 - _ROUNDING) or not (
            floor == 0 or is_enough(exact, cfg, latent)
        ):
            return None
        found[latent] = LatentWindows(exact, windows.random, windows.firing)
    return found
