"""What an SAE does to a text, added up batch by batch in memory that does not grow with the text.

Rows of the text are dealt into `GROUPS` groups; sums are kept for each, and intervals come from
drawing groups with replacement.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.activations.coded import Coded
from core.fit_check.sums import Figure, RowSums, draws, figure

GROUPS = 40
"""Groups of rows from which intervals are drawn."""
_FIRST_EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, eq=False)
class TextFigures:
    """What was found on the text."""

    n_tokens: int
    """Positions that counted."""
    l0: Figure
    """Active latents a position, on average."""
    l0_counts: Int[np.ndarray, " most"]
    """`l0_counts[k]` positions had k active latents."""
    explained_variance: Figure
    """Share of the variance about the mean of all positions that the SAE reproduces."""
    position_edges: Int[np.ndarray, " bins_1"]
    """Bin b holds positions `position_edges[b]` to before `position_edges[b + 1]` of a row."""
    position_tokens: Int[np.ndarray, " bins"]
    """Positions in each bin."""
    position_explained: Float[np.ndarray, "bins 3"]
    """Variance explained in each bin, about the bin's own mean: value, lower and upper end."""
    firings: Int[np.ndarray, " d_sae"]
    """Positions at which each latent fired."""

    @property
    def rates(self) -> Float[np.ndarray, " d_sae"]:
        """Share of positions at which each latent fired."""
        return self.firings / self.n_tokens

    @property
    def dead_fraction(self) -> float:
        """Share of latents that never fired on this text."""
        return float((self.firings == 0).mean())

    @property
    def dead_on_twice_the_text(self) -> float:
        """Share that would still be silent on twice as much text, as Good and Toulmin (1956)
        estimate it from how many latents fired once, twice, three times, …"""
        seen = np.bincount(np.minimum(self.firings, 8), minlength=9)[1:8]
        woken = float(seen[0] - seen[1] + seen[2] - seen[3])
        silent = float((self.firings == 0).sum())
        return (silent - min(max(woken, 0.0), silent)) / len(self.firings)

    def dense_fraction(self, above: float = 0.1) -> Figure:
        """Share of latents that fire on more than `above` of positions.

        The interval counts the latents whose own rate is surely above (lower end) and possibly
        above (upper end), at 95 % (normal approximation, positions taken as independent).
        """
        rate = self.rates
        spread = 1.96 * np.sqrt(np.maximum(rate * (1 - rate), 0) / self.n_tokens)
        low, high = ((rate + sign * spread > above).mean() for sign in (-1, 1))
        return Figure(float((rate > above).mean()), float(low), float(high))


@dataclass(eq=False)
class TextSums:
    """Grows by batches; `finish` gives the figures."""

    d_sae: int
    """Latents of the SAE."""
    context: int
    """Positions of a row."""
    edges: np.ndarray = field(init=False)
    """Ends of the bins of positions."""
    mean: np.ndarray | None = field(default=None, init=False)
    """Mean of what is to be written, once finished."""

    def __post_init__(self) -> None:
        inside = [it for it in _FIRST_EDGES if it < self.context]
        self.edges = np.array([*inside, self.context])
        self._bins: list[RowSums] | None = None
        self._firings = np.zeros(self.d_sae, np.int64)
        self._l0 = np.zeros(1, np.int64)

    def add(
        self,
        found: Coded,
        wanted: Float[Tensor, "n d_out"],
        row: Int[np.ndarray, " n"],
        position: Int[np.ndarray, " n"],
    ) -> None:
        """Take in some positions: what the SAE made of them, what it was to write, and where in
        the text they are."""
        active = torch.bincount(found.position, minlength=len(wanted)).cpu().numpy()
        self._firings += torch.bincount(found.latent, minlength=self.d_sae).cpu().numpy()
        l0 = np.bincount(active)
        if len(l0) > len(self._l0):
            self._l0 = np.pad(self._l0, (0, len(l0) - len(self._l0)))
        self._l0[: len(l0)] += l0
        target = wanted.float()
        error = (found.written.to(target) - target).double().pow(2).sum(1).cpu().numpy()
        square = target.double().pow(2).sum(1).cpu().numpy()
        total = target.cpu().double().numpy()
        n_bins = len(self.edges) - 1
        if self._bins is None:
            self._bins = [_empty(total.shape[1]) for _ in range(n_bins)]
        group = row % GROUPS
        cell = group * n_bins + np.searchsorted(self.edges, position, side="right") - 1
        order = np.argsort(cell, kind="stable")
        cells, starts = np.unique(cell[order], return_index=True)
        added = np.add.reduceat(total[order], starts, axis=0)
        sums = [np.add.reduceat(it[order], starts) for it in (active.astype(float), error, square)]
        counts = np.diff([*starts, len(cell)])
        for i, where in enumerate(cells):
            into, g = self._bins[where % n_bins], where // n_bins
            into.n[g] += counts[i]
            into.active[g] += sums[0][i]
            into.error[g] += sums[1][i]
            into.square[g] += sums[2][i]
            into.total[g] += added[i]

    def finish(self) -> TextFigures:
        """The figures. Raises ValueError where no position was added."""
        if self._bins is None:
            raise ValueError("The text has no token that counts; choose a longer one.")
        names = ("n", "active", "error", "square", "total")
        whole = RowSums(*(np.sum([getattr(it, name) for it in self._bins], 0) for name in names))
        used = whole.n > 0
        whole = _only(whole, used)
        self.mean = whole.total.sum(0) / whole.n.sum()
        weights = draws(len(whole.n))
        explained = 1 - whole.fvu(weights)
        by_bin = []
        for it in self._bins:
            here = _only(it, used)
            with np.errstate(invalid="ignore", divide="ignore"):
                value, samples = 1 - float(here.fvu()[0]), 1 - here.fvu(weights)
            shown = figure(value, samples, rows=int((here.n > 0).sum()))
            by_bin.append((shown.value, shown.low, shown.high))
        return TextFigures(
            n_tokens=int(whole.n.sum()),
            l0=figure(float(whole.l0()[0]), whole.l0(weights), rows=len(whole.n)),
            l0_counts=self._l0,
            explained_variance=figure(1 - float(whole.fvu()[0]), explained, rows=len(whole.n)),
            position_edges=self.edges,
            position_tokens=np.array([int(it.n.sum()) for it in self._bins]),
            position_explained=np.array(by_bin),
            firings=self._firings,
        )


def _empty(width: int) -> RowSums:
    n, active, error, square = (np.zeros(GROUPS) for _ in range(4))
    return RowSums(n, active, error, square, np.zeros((GROUPS, width)))


def _only(sums: RowSums, used: np.ndarray) -> RowSums:
    return RowSums(
        sums.n[used], sums.active[used], sums.error[used], sums.square[used], sums.total[used]
    )
