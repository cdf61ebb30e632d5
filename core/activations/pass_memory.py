"""Memory that a pass over a text takes, and which SAEs share a run of the model.

What is kept of a latent is its examples: the strongest, and some of each cell of its histogram,
each with the tokens around it. Widths are numbers of latents; SAEs keep their order.
"""

from collections.abc import Sequence

from core.activations.config import CELLS, IndexConfig

MOST_BYTES = 2 << 30
"""What is kept at most of the SAEs that share a pass, unless one alone takes more."""
_FIRINGS_BYTES = 100_000_000
"""Firings of a stretch of text on their way to what is kept."""


def pass_groups(widths: Sequence[int], config: IndexConfig) -> list[list[int]]:
    """Places in `widths` of the SAEs of each pass: as many as there is memory for."""
    groups: list[list[int]] = []
    held = 0
    for place, d_sae in enumerate(widths):
        needed = _kept_bytes(d_sae, config)
        if not groups or held + needed > MOST_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(place)
        held += needed
    return groups


def pass_bytes(widths: Sequence[int], config: IndexConfig) -> int:
    """Bytes of one pass: what is kept, half as much of the widest for its index, and firings."""
    kept = [_kept_bytes(it, config) for it in widths]
    return sum(kept) + max(kept, default=0) // 2 + _FIRINGS_BYTES


def index_bytes(widths: Sequence[int], config: IndexConfig) -> int:
    """Bytes of the largest of the passes that indexing these SAEs takes."""
    groups = pass_groups(widths, config)
    return max((pass_bytes([widths[it] for it in group], config) for group in groups), default=0)


def _kept_bytes(d_sae: int, config: IndexConfig) -> int:
    return d_sae * (config.n_top + CELLS * config.per_quantile) * (2 * config.window + 8)
