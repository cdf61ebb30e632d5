"""The firings of a random sample of rows, from which firing together is counted.

Rows have a random order of their own (a hash of the row number); the sample is the beginning of
that order among the rows seen, up to a budget. The beginning of a union is made of beginnings, so
samples merge exactly, and SAEs indexed on the same rows with the same seed sample the same rows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from core.activations.block import Block, order_by
from core.activations.config import IndexConfig
from core.activations.ranked import random_rank


@dataclass
class RowSample:
    """All firings of the sampled rows."""

    max_tokens: int
    """Positions after which no further row is taken."""
    max_pairs: int
    """Pairs of active latents after which no further row is taken."""
    seed: int
    """Order of the rows."""
    context: int
    """Places of a row."""
    rows: Int[np.ndarray, " m"]
    """Rows sampled, in their random order."""
    counted: Int[np.ndarray, " m"]
    """Positions of each that count."""
    pairs: Int[np.ndarray, " m"]
    """Pairs of active latents in each: the sum of squares of the latents active at a position."""
    latent: Int[np.ndarray, " nnz"]
    """int32 latent of each firing, sorted by place."""
    place: Int[np.ndarray, " nnz"]
    """int32 place of each firing, ascending; latents ascend within a place."""
    value: Float[np.ndarray, " nnz"]
    """float32 activation."""

    @classmethod
    def empty(cls, config: IndexConfig, context: int) -> "RowSample":
        """Nothing sampled yet."""
        return cls(
            max_tokens=config.cofiring_tokens,
            max_pairs=config.cofiring_pairs,
            seed=config.seed,
            context=context,
            rows=np.empty(0, np.int64),
            counted=np.empty(0, np.int64),
            pairs=np.empty(0, np.int64),
            latent=np.empty(0, np.int32),
            place=np.empty(0, np.int32),
            value=np.empty(0, np.float32),
        )

    def add_block(self, block: Block) -> None:
        """Take in the rows of a block that come early enough in the order."""
        if self.max_tokens == 0:
            return
        wanted = self._early(block.rows)
        if not wanted.any():
            return
        is_wanted = np.zeros(int(block.rows.max()) + 1, dtype=bool)
        is_wanted[block.rows[wanted]] = True
        inside = is_wanted[block.place // block.context]
        latent, place, value = block.latent[inside], block.place[inside], block.value[inside]
        first = int(block.rows.min()) * block.context
        order = order_by(place - first, (int(block.rows.max()) + 1) * block.context - first)
        rows = block.rows[wanted].astype(np.int64)
        sizes = np.bincount(place) if len(place) else np.zeros(1, np.int64)
        active = np.flatnonzero(sizes)
        pairs = np.zeros(int(block.rows.max()) + 1, dtype=np.int64)
        np.add.at(pairs, active // block.context, sizes[active].astype(np.int64) ** 2)
        self._join(
            rows,
            block.counted[wanted].astype(np.int64),
            pairs[rows],
            latent[order],
            place[order],
            value[order],
        )

    def add(self, other: "RowSample") -> None:
        """Take in another sample of other rows."""
        self._join(other.rows, other.counted, other.pairs, other.latent, other.place, other.value)

    def matrix(self, n_latents: int) -> csr_array:
        """[positions, latents], positions in order of their places; silent positions left out."""
        places, index = np.unique(self.place, return_inverse=True)
        shape = (len(places), n_latents)
        return csr_array((self.value, (index, self.latent)), shape=shape)

    @property
    def n_tokens(self) -> int:
        """Positions sampled that count, silent ones too."""
        return int(self.counted.sum())

    def _full(self) -> bool:
        return self.n_tokens >= self.max_tokens or int(self.pairs.sum()) >= self.max_pairs

    def _early(self, rows: np.ndarray) -> np.ndarray:
        if not self._full():
            return np.ones(len(rows), dtype=bool)
        return self._rank(rows) < self._rank(self.rows[-1:])

    def _rank(self, rows: np.ndarray) -> np.ndarray:
        return random_rank(np.zeros(len(rows), np.int64), rows, self.seed)

    def _join(
        self,
        rows: np.ndarray,
        counted: np.ndarray,
        pairs: np.ndarray,
        latent: np.ndarray,
        place: np.ndarray,
        value: np.ndarray,
    ) -> None:
        rows = np.concatenate([self.rows, rows])
        order = np.argsort(self._rank(rows))
        rows = rows[order]
        counted = np.concatenate([self.counted, counted])[order]
        pairs = np.concatenate([self.pairs, pairs])[order]
        # A row is in as long as the rows before it leave some of the budget.
        before_tokens, before_pairs = counted.cumsum() - counted, pairs.cumsum() - pairs
        kept = (before_tokens < self.max_tokens) & (before_pairs < self.max_pairs)
        self.rows, self.counted, self.pairs = rows[kept], counted[kept], pairs[kept]
        place = np.concatenate([self.place, place])
        is_sampled = np.zeros(int(rows.max(initial=-1)) + 1, dtype=bool)
        is_sampled[self.rows] = True
        inside = is_sampled[place // self.context]
        place = place[inside]
        order = np.argsort(place, kind="stable")
        self.place = place[order]
        self.latent = np.concatenate([self.latent, latent])[inside][order]
        self.value = np.concatenate([self.value, value])[inside][order]
