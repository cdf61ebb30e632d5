"""The two measures of absorption of SAEBench, at each position where the probe is right.

With p the probe's direction (length 1), x what the latents have to explain, a_i the activation of
latent i and d_i what a unit of it writes, latent i adds a_i·(d_i·p) to the projection x·p. SAEBench
takes a_i·cos(d_i, p), which is the same only for rows of length 1, and the raw activation for x, in
which the SAE's bias is still in; `raw=True` does as SAEBench does.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from core.absorption.sites import Sites

FIRES = 1e-8


@dataclass(frozen=True)
class Thresholds:
    """From where on something counts; the defaults are SAEBench's."""

    full_cosine: float = 0.025
    """Least cosine of the absorbing latent with the probe, for full absorption."""
    share: float = 0.4
    """Least share of the projection that absorbing latents carry."""
    fraction_cosine: float = 0.1
    """Least cosine of absorbing latents, for the fraction."""
    most_absorbers: int = 3
    """Latents that may share in the fraction."""

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.most_absorbers >= 1):
            raise ValueError(
                f"share {self.share} and most_absorbers {self.most_absorbers}: use more than 0 and "
                "at most 1, and 1 or more."
            )


@dataclass(frozen=True, eq=False)
class Absorbed:
    """What was found at each of `m` positions."""

    fires: Bool[np.ndarray, " m"]
    """Whether any of the concept's own latents fires."""
    full: Bool[np.ndarray, " m"]
    """Full absorption: none does, and one other latent carries the concept."""
    fraction: Float[np.ndarray, " m"]
    """Absorption fraction, 0 to 1."""
    absorber: Int[np.ndarray, " m"]
    """The latent that adds most to the projection; -1 where none adds anything."""
    share: Float[np.ndarray, " m"]
    """What it adds as a share of the projection."""


def absorbed(
    sites: Sites,
    direction: Float[np.ndarray, " d"],
    mains: Int[np.ndarray, " n_mains"],
    *,
    thresholds: Thresholds | None = None,
    raw: bool = False,
) -> Absorbed:
    """Both measures at every position of `sites`, for a concept whose own latents are `mains`."""
    t = thresholds or Thresholds()
    m, d_sae = sites.acts.shape
    along = sites.rows @ direction
    lengths = np.maximum(np.linalg.norm(sites.rows, axis=1), 1e-12)
    cosine = along / lengths
    weight = cosine if raw else along
    projection = (sites.x + sites.bias if raw else sites.x) @ direction
    is_main = np.zeros(d_sae, bool)
    is_main[mains] = True
    acts = sites.acts
    row = np.repeat(np.arange(m), np.diff(acts.indptr))
    added = acts.data * weight[acts.indices]
    own = is_main[acts.indices]
    fires = np.bincount(row, own & (acts.data > FIRES), minlength=m) > 0
    carried = np.bincount(row, added * own, minlength=m)
    first = _largest(row, np.where(own, -np.inf, added), m)
    best = np.where(first >= 0, added[np.maximum(first, 0)], 0.0)
    absorber = np.where((first >= 0) & (best > 0), acts.indices[np.maximum(first, 0)], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(projection > 0, best / projection, 0.0)
    close = cosine[np.maximum(absorber, 0)] >= t.full_cosine
    full = ~fires & (absorber >= 0) & close & (projection >= 0) & (share >= t.share)
    usable = ~own & (cosine[acts.indices] >= t.fraction_cosine) & (acts.data > 0)
    others = _sum_of_largest(row[usable], added[usable], m, t.most_absorbers)
    return Absorbed(fires, full, _fraction(others, carried, projection, t.share), absorber, share)


def _fraction(
    others: np.ndarray, carried: np.ndarray, projection: np.ndarray, least: float
) -> Float[np.ndarray, " m"]:
    """0 where the concept's own latents carry all or others carry less than `least` of it, 1 where
    they carry nothing, else the others' share of what both carry, at most what is missing."""
    positive = projection > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        enough = positive & (others / np.where(positive, projection, np.nan) >= least)
        missing = np.minimum(others, projection - carried)
        value = missing / (missing + carried)
    value = np.where(carried <= 0, 1.0, value)
    return np.where(enough & (carried < projection), value, 0.0)


def _largest(row: np.ndarray, value: np.ndarray, m: int) -> Int[np.ndarray, " m"]:
    """Place of the largest finite value of each row, rows ascending; -1 where there is none."""
    found = np.full(m, -1)
    if len(row) == 0:
        return found
    begins = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    best = np.maximum.reduceat(value, begins)
    lengths = np.diff(np.r_[begins, len(row)])
    place = np.flatnonzero((value == np.repeat(best, lengths)) & np.isfinite(value))
    found[row[place]] = place
    return found


def _sum_of_largest(
    row: np.ndarray, value: np.ndarray, m: int, most: int
) -> Float[np.ndarray, " m"]:
    order = np.lexsort((-value, row))
    sorted_row = row[order]
    starts = np.searchsorted(sorted_row, np.arange(m))
    rank = np.arange(len(order)) - starts[sorted_row]
    kept = order[rank < most]
    return np.bincount(row[kept], value[kept], minlength=m)
