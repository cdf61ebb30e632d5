"""Places and clusters of very many latents: a map of a sample, and all others placed by it."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import large_layout
from core.splitting.fits import Fit
from core.splitting.large_config import LargeMap
from core.splitting.map_config import MapConfig
from core.splitting.map_work import Work, cluster_geometry, layout_key
from core.splitting.neighbors import Neighbors, neighbors_of
from core.splitting.rows import DecoderRows
from core.store import ARRAYS, Key
from core.store.memory import ResultStore

SETTLE = "core.splitting.large_layout:settle"
SEARCH_SECONDS = "core.splitting.descent:seconds_of_search"
LAYOUT_SECONDS = "core.splitting.large_layout:seconds_of_layout"


@dataclass(frozen=True)
class LargeWork:
    """What one large map is made from; used as `core.splitting.map_work.Work` is."""

    rows: DecoderRows
    config: MapConfig
    neighbors: Neighbors
    store: ResultStore
    fit: Fit
    progress: Progress | None
    large: LargeMap

    def points(self) -> dict[str, np.ndarray]:
        """`points` [n, 2], and of each row the row of the sample that it `follows`."""
        return self._stored(self._key("splitting-large-points"), self._fit_points)

    def clusters(self) -> dict[str, np.ndarray]:
        """`labels` [n], and of each cluster `compactness` and `medoids`."""
        settings = {
            **self.config.cluster_layout,
            "min_cluster_size": self.config.min_cluster_size,
        }
        return self._stored(self._key("splitting-large-clusters", **settings), self._label)

    def _fit_points(self) -> dict[str, np.ndarray]:
        sample_xy = self._sample_work.points()["points"]
        self._next_part()
        start, follows = large_layout.places_from_sample(
            self.rows.directions,
            self.neighbors.ids[:, : self.config.n_neighbors],
            self.neighbors.distances[:, : self.config.n_neighbors],
            self._sample,
            sample_xy,
            seed=self.config.seed,
            progress=self.progress,
        )
        places = self.fit(
            SETTLE,
            self.neighbors.ids[:, : self.config.n_neighbors],
            self.neighbors.distances[:, : self.config.n_neighbors],
            start,
            layout=self.config.layout,
            epochs=self.large.epochs,
            alpha=self.large.alpha,
            progress=self.progress,
        )
        return {"points": places, "follows": follows}

    def _label(self) -> dict[str, np.ndarray]:
        labels = self._sample_work.clusters()["labels"][self.points()["follows"]]
        found = cluster_geometry(self.rows.directions, labels)
        return {"labels": labels, "compactness": found.compactness, "medoids": found.medoids}

    @cached_property
    def _sample(self) -> Int[np.ndarray, " m"]:
        return large_layout.sample_of(len(self.rows), self.large, seed=self.config.seed)

    @cached_property
    def _sample_work(self) -> Work:
        """The map of the sample, made and kept as any small one."""
        chosen = self._sample
        rows = replace(
            self.rows,
            directions=self.rows.directions[torch.as_tensor(chosen)],
            sae_index=self.rows.sae_index[chosen],
            latents=self.rows.latents[chosen],
        )
        every = replace(self.large, above=max(self.large.above, len(rows)))
        self._next_part()
        near = neighbors_of(
            rows, self.config.k, store=self.store, progress=self.progress, large=every
        )
        self._next_part()
        return Work(rows, self.config, near, self.store, self.fit, self.progress)

    def _key(self, kind: str, **settings: Any) -> Key:
        parameters = {
            "layout": layout_key(self.rows, self.config.layout).digest,
            "large": self.large.parameters,
            "exact": self.neighbors.recall is None,
            **settings,
        }
        return Key(kind, large_layout.VERSION, parameters)

    def _stored(
        self, key: Key, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        waiting = self.progress.check if self.progress is not None else None
        return self.store.get_or_compute(key, compute, ARRAYS, waiting=waiting)

    def _next_part(self) -> None:
        if self.progress is not None:
            self.progress.next_part()


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


def plan_large(
    rows: DecoderRows, config: MapConfig, large: LargeMap, fit: Fit, progress: Progress
) -> None:
    """Have `progress` tell the time that is left of the whole, from the start on."""
    progress.update(0, 1, message="Measuring how long the map will take")
    progress.plan(*seconds_of_parts(rows, config, large, fit))
