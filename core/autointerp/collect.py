"""Keep the windows worth keeping while rows of text come in, in any order."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import LatentWindows, Windows

_SPARE_TOP = 8
_SPARE_RANDOM = 4
_FIRING = 96


class WindowCollector:
    """The strongest, random, and random firing windows of some latents."""

    def __init__(
        self,
        latents: Sequence[int],
        cfg: AutoInterpConfig,
        lengths: Int[np.ndarray, " n_rows"],
    ) -> None:
        """`lengths`: tokens of each row that will come; random places are drawn among them."""
        self.latents, self._cfg = list(latents), cfg
        self._rng = np.random.default_rng([cfg.seed, 1])
        width = 2 * cfg.buffer + 1
        none = Windows.empty(width)
        self._kept = {latent: LatentWindows(none, none, none) for latent in self.latents}
        self._priority = {latent: np.zeros(0) for latent in self.latents}
        self._random_rows, self._random_positions = self._drawn(lengths)

    def add(
        self,
        rows: Int[np.ndarray, " batch"],
        tokens: Int[np.ndarray, "batch seq"],
        acts: Float[np.ndarray, "batch seq n_latents"],
    ) -> None:
        """Look at some rows: ids (-1 in padding) and activations (0 at BOS and in padding)."""
        cfg, batch = self._cfg, _Batch(rows, tokens, acts, self._cfg.buffer)
        floors = [_floor(self._kept[latent].top, cfg) for latent in self.latents]
        strongest = batch.strongest(np.array(floors, dtype=np.float32), cfg)
        firing = batch.firing() if cfg.across_quantiles else {}
        inside = np.full(int(max(rows.max(initial=0), self._random_rows.max(initial=0))) + 1, -1)
        inside[rows] = np.arange(len(rows))
        for i, latent in enumerate(self.latents):
            kept = self._kept[latent]
            here = inside[self._random_rows[i]]
            drawn = batch.windows(i, here[here >= 0], self._random_positions[i][here >= 0])
            # A middle in padding is no place of the text.
            drawn = drawn.take(np.flatnonzero(drawn.tokens[:, cfg.buffer] >= 0))
            top = _best(kept.top.join(strongest[i]), cfg) if i in strongest else kept.top
            some = self._some_firing(latent, firing[i]) if i in firing else kept.firing
            self._kept[latent] = LatentWindows(top, kept.random.join(drawn), some)

    @property
    def random_rows(self) -> Int[np.ndarray, " n"]:
        """Rows that hold the random windows, ascending."""
        return np.unique(self._random_rows)

    def result(self) -> dict[int, LatentWindows]:
        """What is kept of each latent."""
        return dict(self._kept)

    def _some_firing(self, latent: int, new: Windows) -> Windows:
        """A uniform sample of all firing places so far: those of the highest random priority."""
        priority = np.concatenate([self._priority[latent], self._rng.random(len(new))])
        order = np.argsort(-priority, kind="stable")[:_FIRING]
        self._priority[latent] = priority[order]
        return self._kept[latent].firing.join(new).take(order)

    def _drawn(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and positions of the random windows, uniform over all that fit into a row."""
        cfg = self._cfg
        shape = (len(self.latents), cfg.n_random_ex_for_scoring + _SPARE_RANDOM)
        ends = np.maximum(lengths.astype(np.int64) - 2 * cfg.buffer, 0).cumsum()
        if not len(ends) or ends[-1] == 0:
            none = np.zeros((len(self.latents), 0), np.int64)
            return none, none
        rng = np.random.default_rng(cfg.seed)
        place = rng.integers(0, ends[-1], shape)
        rows = np.searchsorted(ends, place, side="right")
        before = np.concatenate([[0], ends])[rows]
        return rows, place - before + cfg.buffer


class _Batch:
    """Activations of the wanted latents on some rows."""

    def __init__(
        self,
        rows: Int[np.ndarray, " batch"],
        tokens: Int[np.ndarray, "batch seq"],
        acts: Float[np.ndarray, "batch seq n_latents"],
        buffer: int,
    ) -> None:
        self._rows, self._tokens, self._acts, self._buffer = rows, tokens, acts, buffer
        self._middle = acts[:, buffer : tokens.shape[1] - buffer].transpose(2, 0, 1)

    def windows(self, i: int, index: np.ndarray, positions: np.ndarray) -> Windows:
        columns = positions[:, None] + np.arange(-self._buffer, self._buffer + 1)
        return Windows(
            self._tokens[index[:, None], columns],
            self._acts[index[:, None], columns, i],
            self._rows[index],
            positions,
        )

    def strongest(
        self, floors: Float[np.ndarray, " n_latents"], cfg: AutoInterpConfig
    ) -> dict[int, Windows]:
        """By number of the latent, where it fires at least as strongly as its floor."""
        found = {}
        for i, index, positions in self._above(floors):
            value = self._acts[index, positions, i]
            order = np.lexsort((positions, self._rows[index], -value))
            rows, at = index[order], positions[order]
            chosen = _apart(rows, at, cfg) if cfg.no_overlap else slice(2 * _n_kept(cfg))
            found[i] = self.windows(i, rows[chosen], at[chosen])
        return found

    def firing(self) -> dict[int, Windows]:
        """By number of the latent, every place at which it fires."""
        zero = np.zeros(len(self._middle), dtype=np.float32)
        return {i: self.windows(i, index, at) for i, index, at in self._above(zero)}

    def _above(self, floors: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        high = (self._middle > 0) & (self._middle >= floors[:, None, None])
        latent, index, position = np.nonzero(high)
        begin = np.searchsorted(latent, np.arange(len(self._middle) + 1))
        parts = []
        for i in np.unique(latent).tolist():
            mine = slice(begin[i], begin[i + 1])
            parts.append((i, index[mine], position[mine] + self._buffer))
        return parts


def _n_kept(cfg: AutoInterpConfig) -> int:
    return cfg.n_top_ex + _SPARE_TOP


def _floor(top: Windows, cfg: AutoInterpConfig) -> float:
    """What a place has to reach to be kept."""
    return float(top.acts[-1, cfg.buffer]) if len(top) >= _n_kept(cfg) else 0.0


def _best(windows: Windows, cfg: AutoInterpConfig) -> Windows:
    """The strongest, each text once; of equals the first in the corpus."""
    value = windows.acts[:, cfg.buffer]
    windows = windows.take(np.lexsort((windows.positions, windows.rows, -value)))
    _, first = np.unique(windows.tokens, axis=0, return_index=True)
    return windows.take(np.sort(first)[: _n_kept(cfg)])


def _apart(rows: np.ndarray, positions: np.ndarray, cfg: AutoInterpConfig) -> np.ndarray:
    """Indices of places, strongest first, that are more than `buffer` from stronger ones."""
    free = np.ones(len(rows), dtype=bool)
    chosen = []
    for index in range(len(rows)):
        if free[index]:
            chosen.append(index)
            near = np.abs(positions - positions[index]) <= cfg.buffer
            free &= ~((rows == rows[index]) & near)
            if len(chosen) == _n_kept(cfg):
                break
    return np.array(chosen, dtype=np.int64)
