"""What is known of all latents after some rows: arrays that only ever depend on the set of rows.

`add_block` and `merge` are exact: counts are integers, sums are in fixed point, examples are kept
by a rank of their own, so any split of the corpus and any order of merging gives the same arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from core.activations.bins import N_BINS, cell_width, exponent, log_bin
from core.activations.block import Block, windows
from core.activations.config import CELLS, IndexConfig
from core.activations.ranked import (
    Entries,
    RankedLists,
    RankFunction,
    among_first,
    random_rank,
    strongest_first,
)
from core.activations.row_sample import RowSample

SUM_UNIT = 2.0**-24
"""Unit of the stored sums; an activation counts as at most 2**22."""
SQUARE_UNIT = 2.0**-16
"""Unit of the stored sums of squares; an activation counts as at most 2**15."""

_CEILING = np.int64(1) << np.int64(46)
_MOST = np.iinfo(np.int64).max


@dataclass
class LatentStatistics:
    """Sufficient statistics of the rows seen so far, for all latents."""

    config: IndexConfig
    """What is kept."""
    context: int
    """Places of a row."""
    rows: Int[np.ndarray, "n_spans 2"]
    """Rows seen, as ascending spans [first, last)."""
    n_tokens: int
    """Positions that counted."""
    count: Int[np.ndarray, " d_sae"]
    """Positions at which each latent fires."""
    total: Int[np.ndarray, " d_sae"]
    """Sum of its activations, in units of `SUM_UNIT`."""
    squares: Int[np.ndarray, " d_sae"]
    """Sum of their squares, in units of `SQUARE_UNIT`."""
    peak: Float[np.ndarray, " d_sae"]
    """Largest activation."""
    histogram: Int[np.ndarray, "d_sae n_bins"]
    """Firings by log-spaced bin of the activation."""
    cell_counts: Int[np.ndarray, "d_sae cells"]
    """Firings by cell: `CELLS` of equal width, which doubles as `peak` passes powers of 2."""
    top: RankedLists
    """Strongest examples, a group a latent."""
    cells: RankedLists
    """Random examples of each cell, group = latent · CELLS + cell."""
    sample: RowSample
    """Firings on a random sample of the rows."""

    @classmethod
    def empty(cls, config: IndexConfig, *, d_sae: int, context: int) -> "LatentStatistics":
        """Nothing seen yet."""
        return cls(
            config=config,
            context=context,
            rows=np.empty((0, 2), dtype=np.int64),
            n_tokens=0,
            count=np.zeros(d_sae, dtype=np.int64),
            total=np.zeros(d_sae, dtype=np.int64),
            squares=np.zeros(d_sae, dtype=np.int64),
            peak=np.zeros(d_sae, dtype=np.float32),
            histogram=np.zeros((d_sae, N_BINS), dtype=np.int32),
            cell_counts=np.zeros((d_sae, CELLS), dtype=np.int32),
            top=RankedLists.empty(d_sae, config.n_top, config.window),
            cells=RankedLists.empty(d_sae * CELLS, config.per_quantile, config.window),
            sample=RowSample.empty(config, context),
        )

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return len(self.count)

    def add_block(self, block: Block, *, latent_chunk: int | None = None) -> None:
        """Take in the firings of rows not seen before, `latent_chunk` latents at a time.

        The chunk bounds what exists besides statistics and block; the result does not depend on it.
        Raises ValueError when a row was seen already.
        """
        self._see_rows(_spans(block.rows))
        self.n_tokens += int(block.counted.sum())
        self.sample.add_block(block)
        step = latent_chunk or self.d_sae
        for first in range(0, self.d_sae, step):
            self._add_latents(block.latents(first, min(first + step, self.d_sae)))

    def _add_latents(self, block: Block) -> None:
        if len(block.latent) == 0:
            return
        starts = np.flatnonzero(np.r_[True, block.latent[1:] != block.latent[:-1]])
        who = block.latent[starts]
        value = block.value.astype(np.float64)
        counts = np.diff(np.r_[starts, len(block.latent)])
        self.count[who] += counts
        fixed = np.minimum(np.rint(value / SUM_UNIT), _CEILING).astype(np.int64)
        self.total[who] = _add(self.total[who], np.add.reduceat(fixed, starts))
        fixed = np.minimum(np.rint(value * value / SQUARE_UNIT), _CEILING).astype(np.int64)
        self.squares[who] = _add(self.squares[who], np.add.reduceat(fixed, starts))
        self._raise_peak(who, np.maximum.reduceat(block.value, starts))
        _count_in(self.histogram, block.latent, log_bin(block.value))
        cell = self._cell(block.latent, block.value)
        _count_in(self.cell_counts, block.latent, cell)
        self._offer_top(block)
        self._offer_cells(block, cell)

    def _offer_top(self, block: Block) -> None:
        # Most activations are below the weakest kept one: leave before anything is sorted.
        lists = self.top
        least = np.where(lists.place[:, -1] >= 0, lists.value[:, -1], np.float32(0))
        index = np.flatnonzero(block.value >= least[block.latent])
        if self.config.one_per_row:
            index = _row_peaks(block, index)
        latent, value, place = block.latent[index], block.value[index], block.place[index]
        index = index[strongest_first(latent, value, place) < lists.worst[latent]]
        lists.offer(self._entries(block, block.latent[index], index), strongest_first)

    def _offer_cells(self, block: Block, cell: np.ndarray) -> None:
        group = block.latent.astype(np.int64) * CELLS + cell
        ranks = random_rank(block.latent, block.place, self.config.seed)
        index = np.flatnonzero(ranks < self.cells.worst[group])
        index = index[among_first(group[index], ranks[index], self.cells.k, len(self.cells.worst))]
        self.cells.offer(self._entries(block, group[index], index), self._cell_rank())

    def _entries(self, block: Block, group: np.ndarray, index: np.ndarray) -> Entries:
        buffer = self.config.buffer
        return Entries(
            group,
            block.value[index],
            block.place[index],
            lambda some: windows(block, index[some], buffer),
        )

    def _cell_rank(self) -> RankFunction:
        seed = self.config.seed
        return lambda group, value, place: random_rank(group // CELLS, place, seed)

    def _cell(self, latent: np.ndarray, value: np.ndarray) -> np.ndarray:
        return np.floor(value / cell_width(self.peak)[latent]).astype(np.int64)

    def _raise_peak(self, latent: np.ndarray, peak: np.ndarray) -> None:
        """Note larger peaks; where that doubles the cells' width, pairs of cells become one."""
        old = self.peak[latent]
        new = np.maximum(old, peak)
        self.peak[latent] = new
        known = old > 0
        shift = np.zeros(len(latent), dtype=np.int64)
        shift[known] = exponent(new[known]) - exponent(old[known])
        moved = np.flatnonzero(shift > 0)
        if len(moved) == 0:
            return
        who, by = latent[moved], np.minimum(shift[moved], 31)
        counts = self.cell_counts[who]
        merged = np.zeros_like(counts)
        for cell in range(CELLS):
            np.add.at(merged, (np.arange(len(who)), cell >> by), counts[:, cell])
        self.cell_counts[who] = merged
        groups = (who[:, None] * np.int64(CELLS) + np.arange(CELLS)).ravel()
        entries = self.cells.entries(groups)
        self.cells.clear(groups)
        shifts = np.zeros(self.d_sae, dtype=np.int64)
        shifts[who] = by
        owner, cell_of = np.divmod(entries.group, CELLS)
        entries.group = owner * CELLS + (cell_of >> shifts[owner])
        self.cells.offer(entries, self._cell_rank())

    def _see_rows(self, spans: np.ndarray) -> None:
        joined = np.concatenate([self.rows, spans])
        joined = joined[np.argsort(joined[:, 0], kind="stable")]
        overlap = np.flatnonzero(joined[1:, 0] < joined[:-1, 1])
        if len(overlap):
            raise ValueError(
                f"Row {joined[overlap[0] + 1, 0]} was indexed already; give each row once."
            )
        begins = np.flatnonzero(np.r_[True, joined[1:, 0] > joined[:-1, 1]])
        ends = np.r_[begins[1:], len(joined)] - 1
        self.rows = np.stack([joined[begins, 0], joined[ends, 1]], axis=1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for checkpoints and for other machines; see `from_arrays`."""
        arrays = {name: getattr(self, name) for name in _PLAIN}
        arrays["n_tokens"] = np.array(self.n_tokens)
        for name in ("top", "cells", "sample"):
            part = getattr(self, name)
            for item in fields(part):
                value = getattr(part, item.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{name}.{item.name}"] = value
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], *, config: IndexConfig, context: int
    ) -> "LatentStatistics":
        """The statistics that `to_arrays` gave, with the config and context it was made with."""

        def part(name: str) -> dict[str, Any]:
            start = f"{name}."
            return {
                key.removeprefix(start): a for key, a in arrays.items() if key.startswith(start)
            }

        return cls(
            config=config,
            context=context,
            n_tokens=int(arrays["n_tokens"]),
            top=RankedLists(**part("top")),
            cells=RankedLists(**part("cells")),
            sample=replace(RowSample.empty(config, context), **part("sample")),
            **{name: arrays[name] for name in _PLAIN},
        )

    def copy(self) -> "LatentStatistics":
        """One that shares no array with this."""
        arrays = {name: array.copy() for name, array in self.to_arrays().items()}
        return LatentStatistics.from_arrays(arrays, config=self.config, context=self.context)


_PLAIN = ("rows", "count", "total", "squares", "peak", "histogram", "cell_counts")


def merge(a: LatentStatistics, b: LatentStatistics) -> LatentStatistics:
    """What one pass over the rows of both would have given; neither is changed.

    Associative and commutative. Raises ValueError when the two differ in config, context or
    number of latents, or have a row in common.
    """
    if (a.config, a.context, a.d_sae) != (b.config, b.context, b.d_sae):
        raise ValueError(
            f"Indexes of {a.d_sae} and {b.d_sae} latents, context {a.context} and {b.context}, "
            "config equal: "
            f"{a.config == b.config}; merge only indexes of one SAE made with one config."
        )
    out, other = a.copy(), b.copy()
    out._see_rows(other.rows)
    out.n_tokens += other.n_tokens
    out.count += other.count
    out.total = _add(out.total, other.total)
    out.squares = _add(out.squares, other.squares)
    out.histogram += other.histogram
    # Both sides' cells must be of one width before they can be added.
    fired = np.flatnonzero(np.maximum(out.peak, other.peak) > 0)
    peak = np.maximum(out.peak, other.peak)[fired]
    out._raise_peak(fired, peak)
    other._raise_peak(fired, peak)
    out.cell_counts += other.cell_counts
    out.top.offer(other.top.entries(), strongest_first)
    out.cells.offer(other.cells.entries(), out._cell_rank())
    out.sample.add(other.sample)
    return out


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Saturating, which is still associative for what is never negative.
    return np.where(a > _MOST - b, _MOST, a + b)


def _count_in(table: np.ndarray, latent: np.ndarray, column: np.ndarray) -> None:
    first, last = int(latent[0]), int(latent[-1]) + 1
    width = table.shape[1]
    flat = (latent.astype(np.int64) - first) * width + column
    counts = np.bincount(flat, minlength=(last - first) * width)
    table[first:last] += counts.reshape(last - first, width).astype(table.dtype)


def _row_peaks(block: Block, index: np.ndarray) -> np.ndarray:
    """Of the firings at `index`, the first largest of each latent in each row."""
    if len(index) == 0:
        return index
    key = block.latent[index].astype(np.int64) << 32 | block.place[index] // block.context
    value = block.value[index]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    sizes = np.diff(np.r_[starts, len(index)])
    is_peak = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, starts), sizes))
    run = np.repeat(np.arange(len(starts)), sizes)[is_peak]
    return index[is_peak[np.r_[True, run[1:] != run[:-1]]]]


def _spans(rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n_spans 2"]:
    rows = np.asarray(rows, dtype=np.int64)
    return np.stack([rows, rows + 1], axis=1)
