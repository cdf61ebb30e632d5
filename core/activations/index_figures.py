"""What a pass over a text counted of an SAE, kept for who shows the SAE without the index."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.store import BYTES, JSON, Key, Store

if TYPE_CHECKING:  # a page is drawn before it is there
    import pandas as pd

_VERSION = 1


@dataclass(frozen=True)
class IndexFigures:
    """What a pass over a text counted."""

    l0: float
    """Active latents a token."""
    dead_fraction: float
    """Share of latents that were never active."""
    n_tokens: int
    """Tokens that counted."""
    text: str
    """Name of the text."""


def remember_index(
    store: Store, key: tuple[str, str, str, str], summary: "pd.DataFrame", n_tokens: int, text: str
) -> None:
    """Note the figures of an index, unless a longer one is noted already.

    `key` is `(model, release, sae_id, version)`, `summary` as `LatentIndex.summary` gives it.
    """
    counts = summary["count"].to_numpy()
    figures = IndexFigures(
        float(counts.sum() / n_tokens), float((counts == 0).mean()), int(n_tokens), text
    )
    known = recall_index(store, key)
    if known is None or known.n_tokens <= figures.n_tokens:
        store.keep(_key(key), asdict(figures), JSON)
        alive = np.packbits(counts > 0).tobytes()
        store.keep(Key("index-alive", _VERSION, {"of": list(key)}), alive, BYTES)


def recall_alive(store: Store, key: tuple[str, str, str, str]) -> list[int]:
    """Latents that were active at least once in the longest pass; empty where there was none."""
    kept = store.get(Key("index-alive", _VERSION, {"of": list(key)}), BYTES)
    if not kept:
        return []
    return [
        8 * place + bit
        for place, byte in enumerate(kept)
        if byte
        for bit in range(8)
        if byte >> (7 - bit) & 1
    ]


def recall_index(store: Store, key: tuple[str, str, str, str]) -> IndexFigures | None:
    """Figures of the longest pass over a text; None where there was none."""
    kept: Any = store.get(_key(key), JSON)
    try:
        return None if kept is None else IndexFigures(**kept)
    except TypeError:
        return None


def _key(key: tuple[str, str, str, str]) -> Key:
    return Key("index-figures", _VERSION, {"of": list(key)})
