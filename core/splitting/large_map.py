"""Places and clusters of very many latents: a map of a sample, and all others placed by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from core.jobs.progress import Progress
from core.splitting import large_layout
from core.splitting.fits import Fit
from core.splitting.large_config import LargeMap
from core.splitting.map_config import MapConfig
from core.splitting.map_work import Work, cluster_geometry, layout_key
from core.splitting.neighbors import Neighbors, finds_all, neighbors_of
from core.splitting.rows import DecoderRows
from core.store import ARRAYS, Key
from core.store.memory import ResultStore

SETTLE = "core.splitting.large_layout:settle"


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
    told: Callable[[], None] = lambda: None
    """Called before something is computed."""

    def points(self) -> dict[str, np.ndarray]:
        """`points` [n, 2], and of each row the row of the sample that it `follows`."""
        key = points_key(self.rows, self.config, self.large)
        return self._stored(key, self._fit_points)

    def clusters(self) -> dict[str, np.ndarray]:
        """`labels` [n], and of each cluster `compactness` and `medoids`."""
        return self._stored(clusters_key(self.rows, self.config, self.large), self._label)

    def _fit_points(self) -> dict[str, np.ndarray]:
        self.told()
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
        self.told()
        labels = self._sample_work.clusters()["labels"][self.points()["follows"]]
        found = cluster_geometry(self.rows.directions, labels)
        return {"labels": labels, "compactness": found.compactness, "medoids": found.medoids}

    @cached_property
    def _sample(self) -> Int[np.ndarray, " m"]:
        return large_layout.sample_of(len(self.rows), self.large, seed=self.config.seed)

    @cached_property
    def _sample_work(self) -> Work:
        """The map of the sample, made and kept as any small one."""
        rows = rows_of_sample(self.rows, self._sample)
        every = replace(self.large, above=max(self.large.above, len(rows)))
        self._next_part()
        near = neighbors_of(
            rows, self.config.k, store=self.store, progress=self.progress, large=every
        )
        self._next_part()
        return Work(rows, self.config, near, self.store, self.fit, self.progress)

    def _stored(
        self, key: Key, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        waiting = self.progress.check if self.progress is not None else None
        return self.store.get_or_compute(key, compute, ARRAYS, waiting=waiting)

    def _next_part(self) -> None:
        if self.progress is not None:
            self.progress.next_part()


def rows_of_sample(rows: DecoderRows, chosen: Int[np.ndarray, " m"]) -> DecoderRows:
    """Some of the rows, ascending."""
    return replace(
        rows,
        directions=rows.directions[torch.as_tensor(chosen)],
        sae_index=rows.sae_index[chosen],
        latents=rows.latents[chosen],
    )


def points_key(rows: DecoderRows, config: MapConfig, large: LargeMap) -> Key:
    """Where the coordinates of a large map are kept."""
    return _key("splitting-large-points", rows, config, large)


def clusters_key(rows: DecoderRows, config: MapConfig, large: LargeMap) -> Key:
    """Where its clusters are kept."""
    settings = {**config.cluster_layout, "min_cluster_size": config.min_cluster_size}
    return _key("splitting-large-clusters", rows, config, large, **settings)


def _key(kind: str, rows: DecoderRows, config: MapConfig, large: LargeMap, **settings: Any) -> Key:
    parameters = {
        "layout": layout_key(rows, config.layout).digest,
        "large": large.parameters,
        "exact": finds_all(rows, large),
        **settings,
    }
    return Key(kind, large_layout.VERSION, parameters)
