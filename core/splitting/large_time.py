"""How long will a large map take, and what of it is there already?

It is measured on a first bit of each part. What the store has of an earlier run, one that was
killed among them, takes no time again, and a map of which it has everything opens at once.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import large_layout
from core.splitting.fits import Fit
from core.splitting.large_config import LargeMap
from core.splitting.large_map import clusters_key, points_key, rows_of_sample
from core.splitting.map_config import MapConfig
from core.splitting.map_work import layout_key
from core.splitting.neighbors import neighbors_key
from core.splitting.rows import DecoderRows
from core.store import ARRAYS
from core.store.memory import ResultStore

SEARCH_SECONDS = "core.splitting.descent:seconds_of_search"
LAYOUT_SECONDS = "core.splitting.large_layout:seconds_of_layout"


_COPIES = 4
"""Of all directions, that are there at a time beyond the SAEs and the rows themselves."""
POINT_BYTES = 4000
"""Of each point, in the worker: neighbours, their graph, its edges, the tree of clusters."""


def large_bytes(n: int, d: int) -> int:
    """About how much memory a large map of `n` directions of `d` numbers takes at its largest."""
    return n * (_COPIES * 4 * d + POINT_BYTES)


class TimeTold:
    """Has `progress` tell the time that is left of a large map, once some of it is computed."""

    def __init__(
        self,
        rows: DecoderRows,
        config: MapConfig,
        large: LargeMap,
        fit: Fit,
        store: ResultStore,
        progress: Progress | None,
    ) -> None:
        self._rows, self._config, self._large = rows, config, large
        self._fit, self._store, self._progress = fit, store, progress

    def __call__(self) -> None:
        """Before something is computed; only the first call measures."""
        progress, self._progress = self._progress, None
        if progress is None:
            return
        progress.update(0, 1, message="Measuring how long the map will take")
        parts = seconds_left(self._rows, self._config, self._large, self._fit, self._store)
        progress.plan(*parts)


def seconds_left(
    rows: DecoderRows, config: MapConfig, large: LargeMap, fit: Fit, store: ResultStore
) -> tuple[float, ...]:
    """`seconds_of_parts`, with 0 for what the store has."""
    placed = store.is_kept(points_key(rows, config, large), ARRAYS)
    grouped = not config.clusters or store.is_kept(clusters_key(rows, config, large), ARRAYS)
    found = store.is_kept(neighbors_key(rows, config.k, large), ARRAYS)
    if found and placed and grouped:
        return 0.0, 0.0, 0.0, 0.0
    of_all, of_sample, layout, settling = seconds_of_parts(rows, config, large, fit)
    sample = rows_of_sample(rows, large_layout.sample_of(len(rows), large, seed=config.seed))
    known = (placed and grouped) or store.is_kept(neighbors_key(sample, config.k), ARRAYS)
    layouts = [] if placed else [config.layout]
    layouts += [] if grouped else [config.cluster_layout]
    missing = [it for it in layouts if not store.is_kept(layout_key(sample, it), ARRAYS)]
    return (
        0.0 if found else of_all,
        0.0 if known else of_sample,
        layout * len(missing) / (2 if config.clusters else 1),
        0.0 if placed else settling,
    )


def seconds_of_parts(
    rows: DecoderRows, config: MapConfig, large: LargeMap, fit: Fit
) -> tuple[float, ...]:
    """About how long each part of a large map takes here, measured on a first bit of each.

    They are the neighbours of all rows, those of the sample, the sample's layout (with clusters,
    twice that), and the epochs of all rows.
    """
    k, n = config.k, len(rows)
    with tempfile.TemporaryDirectory(prefix="directions-") as folder:
        # Of the rows only some are needed, and their number.
        path = Path(folder) / "directions.npy"
        np.save(path, rows.directions[: large.tried_rows].cpu().numpy())
        some = fit(SEARCH_SECONDS, str(path), k, config=large)
    tried = min(n, large.tried_rows)
    of_all = some * n / tried * np.log(n) / np.log(max(2, tried))
    of_sample = _seconds_of_products(rows.directions, k) * min(n, large.sample_rows) ** 2
    sample, settling = fit(LAYOUT_SECONDS, n, k, config=large)
    return float(of_all), of_sample, sample * (2 if config.clusters else 1), settling


def _seconds_of_products(directions: Tensor, k: int) -> float:
    """Seconds for one pair of rows in the exact search."""
    some = directions[:256]
    tile = directions[:32_768]
    (some @ tile.T).topk(min(k, len(tile)), dim=1)  # the first product starts threads
    began = time.perf_counter()
    (some @ tile.T).topk(min(k, len(tile)), dim=1).indices.cpu()
    return (time.perf_counter() - began) / (len(some) * len(tile))
