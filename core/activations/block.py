"""The firings of some rows, sorted by latent and then by place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

_LARGEST_HALF = np.float32(65504)


@dataclass(frozen=True)
class Block:
    """All firings (activations above 0) of whole rows."""

    n_latents: int
    """Latents of the SAE."""
    context: int
    """Places of a row."""
    rows: Int[np.ndarray, " n_rows"]
    """Rows covered, ascending."""
    counted: Int[np.ndarray, " n_rows"]
    """Positions that count, of each row."""
    latent: Int[np.ndarray, " nnz"]
    """int32, ascending."""
    place: Int[np.ndarray, " nnz"]
    """int32, ascending within a latent."""
    value: Float[np.ndarray, " nnz"]
    """float32, positive and finite."""

    def latents(self, first: int, last: int) -> "Block":
        """Only the latents `first` to `last` (exclusive); they keep their numbers."""
        low, high = np.searchsorted(self.latent, (first, last))
        return Block(
            self.n_latents,
            self.context,
            self.rows,
            self.counted,
            self.latent[low:high],
            self.place[low:high],
            self.value[low:high],
        )


def make_block(
    n_latents: int,
    context: int,
    rows: Int[np.ndarray, " n_rows"],
    counted: Int[np.ndarray, " n_rows"],
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Block:
    """A block of the given rows (ascending) from pieces of `(place, latent, value)`, in any order.

    Raises ValueError for activations that are not finite.
    """
    place = np.concatenate([np.empty(0, np.int32), *(part[0] for part in parts)])
    latent = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
    value = np.concatenate([np.empty(0, np.float32), *(part[2] for part in parts)])
    if not np.isfinite(value).all():
        raise ValueError(
            "Some activations are infinite; load the model and the SAE in float32 instead."
        )
    if (place[1:] < place[:-1]).any():
        order = np.argsort(place, kind="stable")
        place, latent, value = place[order], latent[order], value[order]
    order = order_by(latent, n_latents)
    return Block(n_latents, context, rows, counted, latent[order], place[order], value[order])


def order_by(number: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " n"]:
    """What a stable argsort of numbers from 0 to `most` (exclusive) gives, in linear time."""
    # One entry a row of a matrix, in the column of its number: transposing sorts them.
    n = len(number)
    rows = csr_array(
        (np.empty(n, np.int8), number, np.arange(n + 1, dtype=np.int32)), shape=(n, most)
    )
    return rows.tocsc().indices


def windows(
    block: Block, index: Int[np.ndarray, " m"], buffer: int
) -> Float[np.ndarray, "m width"]:
    """float16 activations of an entry's latent at the `buffer` places on either side of it.

    0 where it does not fire, where a position does not count, and outside the row.
    """
    out = np.zeros((len(index), 2 * buffer + 1), dtype=np.float16)
    if buffer == 0 or len(index) == 0:
        out[:, buffer] = np.minimum(block.value[index], _LARGEST_HALF)
        return out
    row = block.place[index] // block.context
    n = len(block.place)
    live = np.arange(len(index))
    out[:, buffer] = np.minimum(block.value[index], _LARGEST_HALF)
    for step in (-1, 1):
        live = np.arange(len(index))
        # The s-th firing of the latent to this side is at least s places away.
        for distance in range(1, buffer + 1):
            at = index[live] + step * distance
            ok = (at >= 0) & (at < n)
            at, live = at[ok], live[ok]
            offset = block.place[at].astype(np.int64) - block.place[index[live]]
            ok = (
                (block.latent[at] == block.latent[index[live]])
                & (np.abs(offset) <= buffer)
                & (block.place[at] // block.context == row[live])
            )
            at, live, offset = at[ok], live[ok], offset[ok]
            if len(live) == 0:
                break
            out[live, buffer + offset] = np.minimum(block.value[at], _LARGEST_HALF)
    return out
