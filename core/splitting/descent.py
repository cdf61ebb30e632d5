"""Which directions are nearest, where comparing all pairs would take hours? Most of them, by graph.

NN-descent (pynndescent) walks from neighbours to their neighbours. It is told to find twice as many
as are wanted, of which the nearest half is kept: of decoder rows, which are spread out, it misses
fewer then. How many it found is not assumed but measured, by exact search for a sample of the rows.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting.large_config import LARGE, LargeMap

_TILE_COLUMNS = 32_768
_BLOCK_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Cosines held at once."""
_SAME = 1e-6
"""Cosines that differ by less are those of equally near rows."""
_MESSAGE = "Finding nearest neighbours (approximate)"
DESCEND = "core.splitting.descent:descend"
VERSION = 1
"""Raised whenever stored neighbours would differ from those found now."""


@dataclass(frozen=True)
class Approximate:
    """Nearest rows that were found, and how many of the true ones are among them."""

    ids: Int[np.ndarray, "n k"]
    """Row numbers, nearest first, itself first."""
    distances: Float[np.ndarray, "n k"]
    """1 - cosine."""
    recall: float
    """Share of the k nearest rows that were found, measured on a sample by exact search."""


@torch.no_grad()
def approximate_neighbors(
    directions: Float[Tensor, "n d"],
    k: int,
    *,
    fit: Any,
    config: LargeMap = LARGE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Approximate:
    """Most of the `k` rows of highest cosine with each row, itself first.

    `directions` have length 1; `fit` runs the search (`core.splitting.map_work.Fit`), which reads
    them from a file, so that no process holds them twice.

    Raises:
        ValueError: `k` below 1 or beyond the number of rows.
    """
    n = len(directions)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} for {n} rows; ask for 1 to {n} neighbours.")
    with tempfile.TemporaryDirectory(prefix="directions-") as folder:
        path = Path(folder) / "directions.npy"
        np.save(path, directions.cpu().numpy())
        searched = min(n, max(2 * k, config.least_searched))
        ids, distances = fit(DESCEND, str(path), k, searched=searched, seed=seed, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    judged = torch.randperm(n, generator=generator)[: config.judged_rows]
    rows = judged.to(directions.device)
    cosines, _ = nearest_of(directions[rows], directions, k, own=rows, progress=progress)
    farthest = 1 - cosines[:, -1:].cpu() + _SAME
    recall = float((torch.as_tensor(distances[judged.numpy()]) <= farthest).float().mean())
    return Approximate(ids, distances, recall)


def descend(
    path: str, k: int, *, searched: int, seed: int, progress: Any = None
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Neighbours and distances of the rows in the file at `path`; runs in the worker process.

    The same rows and seed give the same neighbours, to the bit.
    """
    from pynndescent import NNDescent

    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if progress is not None:
        progress.update(0, len(rows), unit="latents", message=_MESSAGE)
    found = NNDescent(
        rows, metric="cosine", n_neighbors=searched, max_candidates=60, random_state=seed
    )
    ids, distances = found.neighbor_graph
    ids, distances = _itself_first(ids.astype(np.int32), distances.astype(np.float32), k)
    if progress is not None:
        progress.update(len(rows), len(rows), unit="latents", message=_MESSAGE)
    return ids, np.clip(distances, 0, 2)


def _itself_first(
    ids: Int[np.ndarray, "n m"], distances: Float[np.ndarray, "n m"], k: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The first `k`, where each row is the first of its own, also where there are copies of it.

    A row for which fewer were found (-1) has the last that was found again, as far away as it is.
    """
    own = np.arange(len(ids), dtype=np.int32)
    is_own = ids == own[:, None]
    place = np.where(is_own.any(axis=1), is_own.argmax(axis=1), ids.shape[1] - 1)
    columns = np.arange(ids.shape[1])[None, :]
    # What came before the row itself moves back by one.
    back = np.where(columns == 0, place[:, None], columns - (columns <= place[:, None]))
    ids = np.take_along_axis(ids, back, axis=1)[:, :k].copy()
    distances = np.take_along_axis(distances, back, axis=1)[:, :k].copy()
    ids[:, 0], distances[:, 0] = own, 0
    for column in range(1, ids.shape[1]):
        missing = ids[:, column] < 0
        ids[missing, column] = ids[missing, column - 1]
        distances[missing, column] = distances[missing, column - 1]
    return ids, distances


@torch.no_grad()
def nearest_of(
    queries: Float[Tensor, "m d"],
    directions: Float[Tensor, "n d"],
    k: int,
    *,
    own: Int[Tensor, " m"] | None = None,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """The `k` highest cosines of each query with `directions`, and their rows: exact, in tiles.

    `own` is the row that each query is, which then comes first, with a cosine of 1.
    """
    found = []
    for part in _parts(len(queries), _rows_at_once(directions)):
        some = queries[part]
        values = torch.full((len(some), 0), 0.0, device=queries.device)
        ids = torch.zeros((len(some), 0), dtype=torch.long, device=queries.device)
        for tile in _parts(len(directions), _TILE_COLUMNS):
            if progress is not None:
                progress.check()
            cosines = some @ directions[tile].T
            if own is not None:
                inside = own[part] - tile.start
                mine = (inside >= 0) & (inside < cosines.shape[1])
                cosines[torch.nonzero(mine)[:, 0], inside[mine]] = 4.0
            best, columns = cosines.topk(min(k, cosines.shape[1]), dim=1)
            values, ids = torch.cat([values, best], 1), torch.cat([ids, columns + tile.start], 1)
            values, kept = values.topk(min(k, values.shape[1]), dim=1)
            ids = ids.gather(1, kept)
        found.append((values.clamp(-1, 1), ids))
    return torch.cat([values for values, _ in found]), torch.cat([ids for _, ids in found])


def seconds_of_search(path: str, k: int, *, config: LargeMap, progress: Any = None) -> float:
    """How long a search for the rows in a file takes; what numba compiles first is not counted."""
    from pynndescent import NNDescent

    if progress is not None:
        progress.update(0, 1, message="Measuring how long the map will take")
    rows = np.load(path, allow_pickle=False)
    searched = min(len(rows) - 1, max(2 * k, config.least_searched))
    settings: Any = {"metric": "cosine", "n_neighbors": searched, "max_candidates": 60}
    NNDescent(rows[: 8 * searched], **settings)
    began = time.perf_counter()
    NNDescent(rows, **settings)
    return time.perf_counter() - began


def _rows_at_once(directions: Tensor) -> int:
    held = _BLOCK_BYTES.get(directions.device.type, _BLOCK_BYTES["cpu"])
    return max(1, held // (_TILE_COLUMNS * directions.element_size()))


def _parts(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
