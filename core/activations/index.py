"""The finished index: what dashboards, maps and describers read, for all latents or for some."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.bins import cell_width
from core.activations.cofiring import strongest_partners
from core.activations.config import CELLS, IndexConfig
from core.activations.ranked import RankedLists, random_rank
from core.activations.statistics import SQUARE_UNIT, SUM_UNIT, LatentStatistics
from core.corpus.token_set import TokenSet


@dataclass(frozen=True, eq=False)
class LatentIndex:
    """Examples and figures of the latents `first_latent`, `first_latent + 1`, ...

    Rows of all arrays are latents. Examples are best first; missing ones have place -1, value 0.
    """

    config: IndexConfig
    """What was kept."""
    context: int
    """Places of a row: row, position = divmod(place, context)."""
    n_tokens: int
    """Positions that counted."""
    sample_tokens: int
    """Positions of the random sample in which firing together was counted."""
    first_latent: int
    """Latent of the arrays' row 0; not 0 in a part of an index."""
    count: Int[np.ndarray, " n"]
    """Positions at which the latent fires (int64)."""
    total: Float[np.ndarray, " n"]
    """Sum of its activations (float64)."""
    squares: Float[np.ndarray, " n"]
    """Sum of their squares (float64)."""
    peak: Float[np.ndarray, " n"]
    """Largest activation (float32)."""
    histogram: Int[np.ndarray, "n n_bins"]
    """Firings by log-spaced bin; edges from `core.activations.bin_edges`."""
    cell_counts: Int[np.ndarray, "n cells"]
    """Firings by cells of equal width; see `linear_histogram`."""
    band_edges: Float[np.ndarray, "n n_quantiles_plus_1"]
    """Edges of the bands (float64), from 0 to `peak`: multiples of peak / n_quantiles, rounded to
    the latent's cells (each 1/32 to 1/16 of the peak wide)."""
    band_counts: Int[np.ndarray, "n n_quantiles"]
    """Firings in each band."""
    top_values: Float[np.ndarray, "n n_top"]
    """Strongest activations (float32)."""
    top_places: Int[np.ndarray, "n n_top"]
    """Their places (int32)."""
    top_windows: Float[np.ndarray, "n n_top width"]
    """Activations around them (float16), `buffer` places on either side."""
    band_values: Float[np.ndarray, "n n_quantiles per_quantile"]
    """Random examples of each band (float32), strongest first."""
    band_places: Int[np.ndarray, "n n_quantiles per_quantile"]
    """Their places (int32)."""
    band_windows: Float[np.ndarray, "n n_quantiles per_quantile width"]
    """Activations around them (float16)."""
    partners: Int[np.ndarray, "n n_partners"]
    """Latents that fire together with it most (int32), -1 for none."""
    partner_counts: Int[np.ndarray, "n n_partners"]
    """Positions of the sample at which both fire."""
    sample_counts: Int[np.ndarray, " n"]
    """Positions of the sample at which the latent fires."""

    @property
    def n_latents(self) -> int:
        """Latents in this index or part."""
        return len(self.count)

    def windows(
        self, token_set: TokenSet, before: int, after: int
    ) -> Int[np.ndarray, "n n_top width"]:
        """int32 token ids around the strongest examples, -1 outside rows and for none."""
        return token_set.windows(self.top_places, before, after)

    def part(self, first: int, last: int) -> "LatentIndex":
        """Only the latents `first` to `last` (exclusive)."""
        low, high = first - self.first_latent, last - self.first_latent
        if not 0 <= low <= high <= self.n_latents:
            raise ValueError(
                f"Latents {first} to {last} are not all here; this holds {self.first_latent} to "
                f"{self.first_latent + self.n_latents - 1}."
            )
        arrays = {name: getattr(self, name)[low:high] for name in ARRAY_FIELDS}
        return replace(self, first_latent=first, **arrays)

    def linear_histogram(
        self, latent: int
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m_plus_1"]]:
        """(counts, edges) of the activations above 0, in 16 to 32 bins of equal width."""
        row = self._row(latent)
        width = float(cell_width(self.peak[row : row + 1])[0])
        used = int(self.peak[row] / width) + 1 if self.peak[row] > 0 else 1
        return self.cell_counts[row, :used], np.arange(used + 1) * width

    def summary(self) -> pd.DataFrame:
        """A row for each latent.

        `latent`, `count`, `frequency` (share of the positions), `log10_frequency` (NaN for
        latents that never fire), and of the activations where it fires: `mean`, `std`, `max` and
        `skew` (standardised third moment, from the equal-width cells, so to some 0.05).
        """
        count = self.count.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self.total / count
            variance = np.maximum(self.squares / count - mean**2, 0)
            frequency = count / self.n_tokens
            log_frequency = np.where(count > 0, np.log10(frequency), np.nan)
            skew = _skew(self.cell_counts)
        return pd.DataFrame(
            {
                "latent": np.arange(self.n_latents) + self.first_latent,
                "count": self.count,
                "frequency": frequency,
                "log10_frequency": log_frequency,
                "mean": mean,
                "std": np.sqrt(variance),
                "max": self.peak,
                "skew": skew,
            }
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for the store; see `from_arrays`."""
        scalars = {name: np.array(getattr(self, name)) for name in _SCALARS}
        config = {f"config.{name}": np.array(value) for name, value in asdict(self.config).items()}
        return {**scalars, **config, **{name: getattr(self, name) for name in ARRAY_FIELDS}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "LatentIndex":
        """The index that `to_arrays` gave."""
        config = {f.name: arrays[f"config.{f.name}"].item() for f in fields(IndexConfig)}
        values: dict[str, Any] = {name: int(arrays[name]) for name in _SCALARS}
        values.update({name: arrays[name] for name in ARRAY_FIELDS})
        return cls(config=IndexConfig(**config), **values)

    def _row(self, latent: int) -> int:
        row = latent - self.first_latent
        if not 0 <= row < self.n_latents:
            raise ValueError(
                f"There is no latent {latent} here; choose {self.first_latent} to "
                f"{self.first_latent + self.n_latents - 1}."
            )
        return row


_SCALARS = ("context", "n_tokens", "sample_tokens", "first_latent")
ARRAY_FIELDS = tuple(f.name for f in fields(LatentIndex) if f.name not in ("config", *_SCALARS))


def finish(state: LatentStatistics, *, check: Callable[[], None] | None = None) -> LatentIndex:
    """The index that a state amounts to; `check` may raise, to stop."""
    config, d_sae = state.config, state.d_sae
    edges = _band_edges(state.peak, config.n_quantiles)
    bands = _draw_bands(state, edges)
    firings = state.sample.matrix(d_sae)
    partners, together = strongest_partners(firings, config.n_partners, check=check)
    cumulative = np.concatenate(
        [np.zeros((d_sae, 1), np.int64), state.cell_counts.cumsum(1, dtype=np.int64)], axis=1
    )
    band_edges = edges * cell_width(state.peak)[:, None]
    band_edges[:, -1] = state.peak
    shape = (d_sae, config.n_quantiles, config.per_quantile)
    return LatentIndex(
        config=config,
        context=state.context,
        n_tokens=state.n_tokens,
        sample_tokens=state.sample.n_tokens,
        first_latent=0,
        count=state.count,
        total=state.total * SUM_UNIT,
        squares=state.squares * SQUARE_UNIT,
        peak=state.peak,
        histogram=state.histogram,
        cell_counts=state.cell_counts,
        band_edges=np.where(state.peak[:, None] > 0, band_edges, 0),
        band_counts=np.diff(np.take_along_axis(cumulative, edges, axis=1), axis=1),
        top_values=state.top.value,
        top_places=state.top.place,
        top_windows=state.top.window,
        band_values=bands.value.reshape(shape),
        band_places=bands.place.reshape(shape),
        band_windows=bands.window.reshape(*shape, -1),
        partners=partners,
        partner_counts=together,
        sample_counts=np.bincount(firings.indices, minlength=d_sae),
    )


def _band_edges(
    peak: Float[np.ndarray, " d_sae"], n_bands: int
) -> Int[np.ndarray, "d_sae n_bands_plus_1"]:
    """Edges of the bands in cells; the last is CELLS."""
    cells = peak / cell_width(peak)
    cells = np.where(peak > 0, cells, CELLS)
    edges = np.rint(cells[:, None] * np.arange(n_bands + 1) / n_bands).astype(np.int64)
    edges[:, -1] = CELLS
    return edges


def _draw_bands(state: LatentStatistics, edges: np.ndarray) -> RankedLists:
    """Of each band, the first examples in the random order; all its cells kept their first ones."""
    config, seed = state.config, state.config.seed
    entries = state.cells.entries()
    latent, cell = np.divmod(entries.group, CELLS)
    band = (edges[latent, 1:-1] <= cell[:, None]).sum(1)
    entries.group = latent * config.n_quantiles + band
    drawn = RankedLists.empty(state.d_sae * config.n_quantiles, config.per_quantile, config.window)
    drawn.offer(
        entries,
        lambda group, value, place: random_rank(group // config.n_quantiles, place, seed),
    )
    # For display: strongest first, equal values by place, empty slots last.
    place = np.where(drawn.place >= 0, drawn.place, np.iinfo(np.int32).max)
    order = np.lexsort((place, -drawn.value), axis=-1)
    return RankedLists(
        np.take_along_axis(drawn.value, order, 1),
        np.take_along_axis(drawn.place, order, 1),
        np.take_along_axis(drawn.window, order[:, :, None], 1),
        drawn.worst,
    )


def _skew(cell_counts: Int[np.ndarray, "n cells"]) -> Float[np.ndarray, " n"]:
    centre = np.arange(CELLS) + 0.5
    count = cell_counts.sum(1)
    mean = cell_counts @ centre / count
    offset = centre - mean[:, None]
    second = (cell_counts * offset**2).sum(1) / count
    return (cell_counts * offset**3).sum(1) / count / second**1.5
