"""All latents of an SAE as a table: which are shown, in which order; and how dense they are."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.descriptions.search import search_texts

N_BINS = 40
"""Bars of the histogram of densities."""


@dataclass(frozen=True, eq=False)
class DensityHistogram:
    """How many latents are how often active."""

    counts: Int[np.ndarray, " n"]
    """Latents in each bin; dead ones are in none."""
    edges: Float[np.ndarray, " n_plus_1"]
    """Edges, as powers of ten of the share of tokens."""
    n_dead: int
    """Latents that were never active."""


def density_histogram(summary: pd.DataFrame, *, n_bins: int = N_BINS) -> DensityHistogram:
    """Latents by log10 of their density, from the `summary` of an index."""
    values = summary["log10_frequency"].to_numpy()
    alive = values[np.isfinite(values)]
    if len(alive) == 0:
        return DensityHistogram(np.zeros(0, dtype=np.int64), np.zeros(1), len(values))
    low, high = float(alive.min()), float(alive.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    counts, edges = np.histogram(alive, bins=n_bins, range=(low, high))
    return DensityHistogram(counts, edges, len(values) - len(alive))


def latent_table(
    summary: pd.DataFrame,
    *,
    texts: "np.ndarray | None" = None,
    logit_skew: Float[np.ndarray, " d_sae"] | None = None,
    order: str = "latent",
    kind: str = "all",
    density: tuple[float, ...] = (),
    words: str = "",
) -> pd.DataFrame:
    """Latents with what is known of them, as they were asked for.

    Args:
        summary: `LatentIndex.summary` of the whole SAE.
        texts: a description of each latent, `""` for none.
        logit_skew: skewness of each latent's effects on the vocabulary.
        order: `latent`, `frequent`, `rare`, `strong`, `skewed` or `lens`; latents for which it
            cannot be told come last, and equal ones by number.
        kind: `all`, `alive` or `dead`.
        density: lowest and highest log10 of the share of tokens; empty for any.
        words: what the description must hold, as `core.descriptions.search.search_texts` reads it.

    Returns:
        Columns `latent`, `description`, `density`, `mean`, `max`, `skew`, `logit_skew`.

    Raises:
        ValueError: an unknown order or kind, or a `density` that is not two ascending numbers.
    """
    keys = {
        "latent": None,
        "frequent": "density",
        "rare": "density",
        "strong": "max",
        "skewed": "skew",
        "lens": "logit_skew",
    }
    if order not in keys or kind not in ("all", "alive", "dead"):
        raise ValueError(f"Order {order!r} or kind {kind!r} does not exist; choose another.")
    if density and not (len(density) == 2 and density[0] <= density[1]):
        raise ValueError(f"The density {density} is not a lowest and a highest power of ten.")
    n = len(summary)
    nothing = np.full(n, np.nan)
    alive = summary["count"].to_numpy() > 0
    table = pd.DataFrame(
        {
            "latent": summary["latent"].to_numpy(),
            "description": np.full(n, "", dtype=object) if texts is None else texts,
            "density": summary["frequency"].to_numpy(),
            "mean": summary["mean"].to_numpy(),
            "max": np.where(alive, summary["max"].to_numpy(), np.nan),
            "skew": summary["skew"].to_numpy(),
            "logit_skew": nothing if logit_skew is None else logit_skew,
        }
    )
    shown = np.ones(n, dtype=bool) if kind == "all" else alive == (kind == "alive")
    if density:
        logs = summary["log10_frequency"].to_numpy()
        shown &= np.isfinite(logs) & (logs >= density[0]) & (logs <= density[1])
    if words:
        shown &= np.asarray(search_texts(table["description"].tolist(), words))
    table = table[shown]
    by = keys[order]
    if by is not None:
        # Those never active are not the rarest: there is nothing to see of them.
        value = table[by].where(alive[shown])
        values = value if order == "rare" else -value
        table = table.loc[values.sort_values(kind="stable", na_position="last").index]
    return table.reset_index(drop=True)
