"""Which directions are nearest to which? By cosine, for every row: exactly, up to very many rows.

UMAP's own search (NN-descent) finds few of the true neighbours when directions are spread out, as
decoder rows are; the products of all pairs fit no memory, but a stripe of them at a time does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import descent
from core.splitting.fits import run_here
from core.splitting.large_config import LARGE, LargeMap
from core.splitting.rows import DecoderRows
from core.store import ARRAYS, Key
from core.store.memory import Memory, ResultStore

_STRIPE_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Cosines held at once; on the CPU few enough that a cancelled job stops within a second."""

_KEPT_STEPS = (16, 32, 64, 128, 256)
"""Numbers of neighbours that are kept; more are kept as asked for."""
_MESSAGE = "Finding nearest neighbours"
VERSION = 1
"""Raised whenever stored neighbours would differ from those found now."""


@dataclass(frozen=True)
class Neighbors:
    """The nearest rows of each row, nearest first; the first is the row itself."""

    ids: Int[np.ndarray, "n k"]
    """Row numbers (int32); among equal distances the order is unspecified."""
    distances: Float[np.ndarray, "n k"]
    """1 - cosine, 0 to 2 (float32); 0 for the row itself."""
    recall: float | None = None
    """Share of the nearest rows that were found, measured on a sample; None where all were."""
    judged: int = 0
    """Rows of that sample."""

    def first(self, k: int) -> "Neighbors":
        """Only the `k` nearest, in arrays of their own."""
        return Neighbors(
            np.ascontiguousarray(self.ids[:, :k]),
            np.ascontiguousarray(self.distances[:, :k]),
            self.recall,
            self.judged,
        )


@torch.no_grad()
def exact_neighbors(
    directions: Float[Tensor, "n d"],
    k: int,
    *,
    stripe_rows: int | None = None,
    progress: Progress | None = None,
) -> Neighbors:
    """The `k` rows of highest cosine with each row, itself first (also where there are copies).

    `directions` have length 1 and are compared in their precision, on their device, a stripe of
    `stripe_rows` rows against all others at a time (default: 64 MiB of cosines; 1 GiB on a GPU).

    Raises:
        ValueError: `k` below 1 or beyond the number of rows.
    """
    n = len(directions)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} for {n} rows; ask for 1 to {n} neighbours.")
    kind = directions.device.type
    if stripe_rows is None:
        stripe_bytes = _STRIPE_BYTES.get(kind, _STRIPE_BYTES["cpu"])
        stripe_rows = max(1, stripe_bytes // (n * directions.element_size()))
    ids = torch.empty(n, k, dtype=torch.int32)
    cosines = torch.empty(n, k, dtype=torch.float32)
    for start in range(0, n, stripe_rows):
        if progress is not None:
            progress.update(start, n, unit="latents", message=_MESSAGE)
        stripe = directions[start : start + stripe_rows] @ directions.T
        # Above any cosine: a row comes first in its own list even if it has exact copies.
        stripe.diagonal(start).fill_(4.0)
        values, columns = stripe.topk(k, dim=1)
        ids[start : start + len(stripe)] = columns.to(device="cpu", dtype=torch.int32)
        cosines[start : start + len(stripe)] = values.to(device="cpu", dtype=torch.float32)
    if progress is not None:
        progress.update(n, n, unit="latents", message=_MESSAGE)
    distances = (1 - cosines).clamp_(0, 2)
    return Neighbors(ids.numpy(), distances.numpy())


def neighbors_of(
    rows: DecoderRows,
    k: int,
    *,
    store: ResultStore | None = None,
    progress: Progress | None = None,
    large: LargeMap = LARGE,
    fit: Any = None,
    told: Callable[[], None] | None = None,
) -> Neighbors:
    """The `k` nearest of each row, from the store where it has them.

    More are found and kept than asked for, in steps, so that a few more neighbours in the next map
    do not mean another search. Of more rows than `large.above` most of them are
    found by `fit`, which runs numba (`core.splitting.descent`), and the recall is measured; on a
    GPU all pairs are compared. `told` is called before they are looked for, if they are not kept.
    Raises `ValueError` as `exact_neighbors` does.
    """
    n = len(rows)
    kept, is_exact = _kept(n, k), finds_all(rows, large)

    def compute() -> dict[str, np.ndarray]:
        if told is not None:
            told()
        if is_exact:
            found = exact_neighbors(rows.directions, kept, progress=progress)
            return {"ids": found.ids, "distances": found.distances}
        near = descent.approximate_neighbors(
            rows.directions, kept, fit=fit or run_here, config=large, progress=progress
        )
        recall = np.array([near.recall], dtype=np.float64)
        return {"ids": near.ids, "distances": near.distances, "recall": recall}

    if k > n or (store is None and is_exact):
        return exact_neighbors(rows.directions, k, progress=progress)
    key = neighbors_key(rows, k, large)
    waiting = progress.check if progress is not None else None
    kept_in: ResultStore = Memory() if store is None else store
    arrays = kept_in.get_or_compute(key, compute, ARRAYS, waiting=waiting)
    recall = float(arrays["recall"][0]) if "recall" in arrays else None
    judged = 0 if recall is None else min(n, large.judged_rows)
    return Neighbors(arrays["ids"], arrays["distances"], recall, judged).first(k)


def finds_all(rows: DecoderRows, large: LargeMap) -> bool:
    """Whether all of the nearest are found: of few rows, and on a GPU."""
    return len(rows) <= large.above or rows.directions.device.type == "cuda"


def neighbors_key(rows: DecoderRows, k: int, large: LargeMap = LARGE) -> Key:
    """Where `neighbors_of` keeps what it finds."""
    parameters = {"directions": rows.digest, "k": _kept(len(rows), k)}
    if finds_all(rows, large):
        return Key("splitting-neighbors", VERSION, parameters)
    return Key("splitting-descent", descent.VERSION, {**parameters, **large.search})


def _kept(n: int, k: int) -> int:
    return min(n, next((step for step in _KEPT_STEPS if step >= k), k))
