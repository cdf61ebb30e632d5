"""Indexes in the store, in parts of 1,024 latents: a dashboard reads one part, not all.

A part of the default config is about 4 MB; opening one takes some ten milliseconds.
"""

from dataclasses import asdict

import numpy as np
import pandas as pd

from core.activations.config import IndexConfig
from core.activations.index import ARRAY_FIELDS, LatentIndex
from core.store import ARRAYS, FRAME, Key, Store

_VERSION = 1
_PART = 1024


def index_key(
    *, model_fingerprint: str, sae_fingerprint: str, tokens_digest: str, config: IndexConfig
) -> Key:
    """Key of an index: what it depends on, by content (`fingerprint_of_model`, `_of_sae`)."""
    return Key(
        "latent-index",
        _VERSION,
        {
            "model": model_fingerprint,
            "sae": sae_fingerprint,
            "tokens": tokens_digest,
            "config": asdict(config),
        },
    )


def save_index(store: Store, key: Key, index: LatentIndex) -> None:
    """Store an index: its parts first, then what tells that they are all there.

    Where the disk has no room for one of them, the index is there as long as the explorer runs.
    """
    starts = range(0, index.n_latents, _PART)

    def part(number: int) -> dict[str, np.ndarray]:
        first = starts[number]
        return index.part(first, min(first + _PART, index.n_latents)).to_arrays()

    for number in range(len(starts)):
        store.keep(_part_key(key, number), part(number), ARRAYS)
    # On a full disk a part may have made room for the next one.
    lost = [n for n in range(len(starts)) if not store.is_kept(_part_key(key, n), ARRAYS)]
    for number in lost:
        store.hold(_part_key(key, number), part(number), ARRAYS)
    (store.hold if lost else store.keep)(key, index.summary(), FRAME)


def open_summary(store: Store, key: Key) -> pd.DataFrame | None:
    """`LatentIndex.summary` of a stored index, without opening it; None when there is none."""
    return store.get(key, FRAME)


def open_part(store: Store, key: Key, latent: int) -> LatentIndex | None:
    """The part of a stored index that holds `latent`; None when it is not (or no longer) there."""
    arrays = store.get(_part_key(key, latent // _PART), ARRAYS)
    return None if arrays is None else LatentIndex.from_arrays(arrays)


def open_index(store: Store, key: Key) -> LatentIndex | None:
    """All of a stored index; None when it, or a part of it, is not there."""
    summary = open_summary(store, key)
    if summary is None:
        return None
    numbers = range(-(-len(summary) // _PART))
    parts = [open_part(store, key, number * _PART) for number in numbers]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    joined = {
        name: np.concatenate([getattr(part, name) for part in whole]) for name in ARRAY_FIELDS
    }
    return LatentIndex.from_arrays({**whole[0].to_arrays(), **joined})


def _part_key(key: Key, number: int) -> Key:
    return Key("latent-index-part", _VERSION, {"index": key.digest, "part": number})
