"""Everything a dashboard shows of one latent: from the index, and its neighbours by direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.bins import bin_edges
from core.activations.examples import LatentExamples, latent_examples
from core.activations.stored_index import open_part
from core.activations.text_index import OpenIndex
from core.lease import Lease, SaeName
from core.splitting.decoders import decoders
from core.splitting.relatives import nearest_latents
from core.store import Store

ALWAYS_ON = 0.5
"""Share of the tokens above which a latent is said to be nearly always active."""


@dataclass(frozen=True)
class Partner:
    """A latent that is often active at the same tokens."""

    latent: int
    """Which."""
    together: int
    """Positions of the sample at which both are active."""
    share: float
    """Of the positions at which this latent is active, those at which the partner is, too."""
    frequency: float
    """Share of all positions at which the partner is active: what chance would give."""


@dataclass(frozen=True, eq=False)
class Dashboard:
    """What one latent does on the text that was read."""

    latent: int
    """Which."""
    n_tokens: int
    """Positions looked at."""
    count: int
    """Positions at which it is active."""
    mean: float
    """Mean activation where it is active; NaN where it never is."""
    std: float
    """Standard deviation there."""
    peak: float
    """Largest activation."""
    skew: float
    """Skewness of its activations where it is active."""
    counts: Int[np.ndarray, " n"]
    """Positions in each bin of activation,"""
    edges: Float[np.ndarray, " n_plus_1"]
    """whose edges are these, four to a doubling: from the weakest activation to the strongest."""
    examples: LatentExamples
    """Strongest examples, and some of each part of its range."""
    partners: tuple[Partner, ...]
    """Latents active with it, the closest first."""

    @property
    def frequency(self) -> float:
        """Share of the positions at which it is active."""
        return self.count / self.n_tokens if self.n_tokens else 0.0


def read_dashboard(store: Store, index: OpenIndex, latent: int) -> Dashboard | None:
    """The dashboard of a latent; reads one part of the index. None when that has left the store.

    Raises ValueError for a latent that does not exist.
    """
    if not 0 <= latent < index.d_sae:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {index.d_sae}, so choose 0 to "
            f"{index.d_sae - 1}."
        )
    part = open_part(store, index.key, latent)
    if part is None:
        return None
    row, facts = latent - part.first_latent, index.summary.iloc[latent]
    used = np.flatnonzero(part.histogram[row])
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
    own = max(1, int(part.sample_counts[row]))
    frequency = index.summary["frequency"].to_numpy()
    partners = tuple(
        Partner(int(other), int(both), int(both) / own, float(frequency[other]))
        for other, both in zip(part.partners[row], part.partner_counts[row], strict=True)
        if other >= 0
    )
    return Dashboard(
        latent=latent,
        n_tokens=part.n_tokens,
        count=int(part.count[row]),
        mean=float(facts["mean"]),
        std=float(facts["std"]),
        peak=float(part.peak[row]),
        skew=float(facts["skew"]),
        counts=part.histogram[row, bins],
        edges=bin_edges()[bins.start : bins.stop + 1],
        examples=latent_examples(part, latent, index.token_set),
        partners=partners,
    )


def nearest(lease: Lease, names: Sequence[SaeName], latent: int, *, k: int = 10) -> pd.DataFrame:
    """The `k` latents of each SAE with the highest cosine of decoder directions.

    Args:
        lease: SAEs that write the same space.
        names: theirs; the first is the latent's own.
        latent: the latent.
        k: how many.

    Returns:
        Rows of `release`, `sae_id`, `width`, `latent`, `cosine`: the latent's own SAE first, then
        narrow to wide, highest cosine first.

    Raises:
        ValueError: a latent without a direction, or SAEs that write different spaces.
    """
    labels = [f"{release} / {sae_id}" for release, sae_id in names]
    with lease.turn() as (_, saes):
        family = decoders({label: sae.W_dec for label, sae in zip(labels, saes, strict=True)})
        found = nearest_latents(family, labels[0], latent, k=k)
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
