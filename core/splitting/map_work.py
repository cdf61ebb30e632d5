"""Layouts and clusters of some rows, each found in the worker process and kept in the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import layout
from core.splitting.fits import Fit
from core.splitting.map_config import MapConfig
from core.splitting.neighbors import Neighbors
from core.splitting.rows import DecoderRows
from core.store import ARRAYS, Key
from core.store.memory import ResultStore

FIT_LAYOUT = "core.splitting.layout:fit_layout"
FIT_CLUSTERS = "core.splitting.layout:fit_clusters"
FIT_BOTH = "core.splitting.layout:fit_both"
LABEL_CLUSTERS = "core.splitting.layout:label_clusters"


@dataclass(frozen=True)
class ClusterGeometry:
    """What the directions say of each cluster, by its number."""

    compactness: Float[np.ndarray, " n_clusters"]
    """Mean cosine of the latents with the mean direction of their cluster; 1 if all are equal."""
    medoids: Int[np.ndarray, " n_clusters"]
    """Row of the latent nearest to that mean direction."""


@dataclass(frozen=True)
class Work:
    """What one map is made from."""

    rows: DecoderRows
    config: MapConfig
    neighbors: Neighbors
    store: ResultStore
    fit: Fit
    progress: Progress | None

    def points(self) -> dict[str, np.ndarray]:
        """`points` [n, 2]."""
        key = layout_key(self.rows, self.config.layout)
        return self._stored(key, self._fit_points)

    def clusters(self) -> dict[str, np.ndarray]:
        """`labels` [n], and of each cluster `compactness` and `medoids`."""
        key = _cluster_key(self.rows, self.config)
        return self._stored(key, self._fit_clusters)

    def _stored(self, key: Key, fit: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        waiting = self.progress.check if self.progress is not None else None
        return self.store.get_or_compute(key, fit, ARRAYS, waiting=waiting)

    def _fit_points(self) -> dict[str, np.ndarray]:
        config = self.config
        if not config.clusters or self._embedding() is not None:
            return {"points": self._run(FIT_LAYOUT, layout=config.layout)}
        found = self._run(
            FIT_BOTH,
            layout=config.layout,
            cluster_layout=config.cluster_layout,
            min_cluster_size=config.min_cluster_size,
        )
        self._keep_embedding(found["embedding"])
        self.store.keep(_cluster_key(self.rows, config), self._described(found["labels"]), ARRAYS)
        return {"points": found["points"]}

    def _fit_clusters(self) -> dict[str, np.ndarray]:
        config, embedding = self.config, self._embedding()
        if embedding is not None:
            labels = self.fit(
                LABEL_CLUSTERS,
                embedding,
                min_cluster_size=config.min_cluster_size,
                progress=self.progress,
            )
            return self._described(labels)
        found = self._run(
            FIT_CLUSTERS, layout=config.cluster_layout, min_cluster_size=config.min_cluster_size
        )
        self._keep_embedding(found["embedding"])
        return self._described(found["labels"])

    def _run(self, function: str, **settings: Any) -> Any:
        return self.fit(
            function,
            self.rows.directions.cpu().numpy(),
            self.neighbors.ids,
            self.neighbors.distances,
            **settings,
            progress=self.progress,
        )

    def _embedding(self) -> np.ndarray | None:
        """The stored layout for clusters."""
        arrays = self.store.get(layout_key(self.rows, self.config.cluster_layout), ARRAYS)
        return None if arrays is None else arrays["points"]

    def _keep_embedding(self, embedding: np.ndarray) -> None:
        key = layout_key(self.rows, self.config.cluster_layout)
        self.store.keep(key, {"points": embedding}, ARRAYS)

    def _described(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        found = cluster_geometry(self.rows.directions, labels)
        return {"labels": labels, "compactness": found.compactness, "medoids": found.medoids}


def layout_key(rows: DecoderRows, settings: Mapping[str, Any]) -> Key:
    parameters = {"directions": rows.digest, "umap": version("umap-learn"), **settings}
    return Key("splitting-layout", layout.VERSION, parameters)


def _cluster_key(rows: DecoderRows, config: MapConfig) -> Key:
    parameters = {
        "layout": layout_key(rows, config.cluster_layout).digest,
        "hdbscan": version("hdbscan"),
        "min_cluster_size": config.min_cluster_size,
    }
    return Key("splitting-clusters", layout.VERSION, parameters)


@torch.no_grad()
def cluster_geometry(
    directions: Float[Tensor, "n d"], labels: Int[np.ndarray, " n"]
) -> ClusterGeometry:
    """Of each cluster 0, 1, ... in `labels`; rows below 0 are in none.

    `directions` have length 1. Raises `ValueError` for a number without rows.
    """
    if len(labels) != len(directions):
        raise ValueError(f"{len(labels)} labels are given for {len(directions)} directions.")
    rows = np.flatnonzero(labels >= 0)
    sizes = np.bincount(labels[rows])
    if (sizes == 0).any():
        raise ValueError(f"Cluster {int(sizes.argmin())} is empty; number clusters 0, 1, 2, ...")
    members = torch.as_tensor(rows, device=directions.device)
    cluster = torch.as_tensor(labels[rows].astype(np.int64), device=directions.device)
    mean = torch.zeros(len(sizes), directions.shape[1], device=directions.device)
    mean = torch.nn.functional.normalize(mean.index_add_(0, cluster, directions[members]), dim=1)
    cosines = (directions[members] * mean[cluster]).sum(dim=1).cpu().numpy()
    compactness = np.bincount(labels[rows], weights=cosines) / sizes
    # The last of each cluster in ascending order of cosine; by row where cosines are equal.
    order = np.lexsort((-rows, cosines, labels[rows]))
    last = np.cumsum(sizes) - 1
    medoids = rows[order[last]] if len(sizes) else rows
    return ClusterGeometry(compactness.astype(np.float32), medoids.astype(np.int32))
