"""Where does each latent of several SAEs lie on one map, and which of them lie together?

Neighbours, coordinates and clusters are kept in the store one by one, each under only what it
depends on: another `min_cluster_size` fits no layout again, and clusters added to a map that was
drawn before leave its points where they were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import layout
from core.splitting.map_config import MapConfig
from core.splitting.neighbors import Neighbors, neighbors_of
from core.splitting.rows import DecoderRows, LabelledSae, decoder_rows
from core.store import ARRAYS, Key
from core.store.memory import Memory, ResultStore
from core.worker.child import find_function

FIT_LAYOUT = "core.splitting.layout:fit_layout"
FIT_CLUSTERS = "core.splitting.layout:fit_clusters"
FIT_BOTH = "core.splitting.layout:fit_both"
LABEL_CLUSTERS = "core.splitting.layout:label_clusters"
FEWEST_LATENTS = 3
"""A latent, itself counted, has two neighbours at least, and one more latent is left over."""


class Fit(Protocol):
    """Runs a function named `module:name`; `WorkerProcess.run` is one."""

    def __call__(self, function: str, *args: Any, progress: Any = None, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, with reports to `progress`."""


@dataclass(frozen=True)
class ClusterGeometry:
    """What the directions say of each cluster, by its number."""

    compactness: Float[np.ndarray, " n_clusters"]
    """Mean cosine of the latents with the mean direction of their cluster; 1 if all are equal."""
    medoids: Int[np.ndarray, " n_clusters"]
    """Row of the latent nearest to that mean direction."""


@dataclass(frozen=True)
class SplittingMap:
    """A map: one row a latent in `points`, in the order of the SAEs and of their latents."""

    points: pd.DataFrame
    """`sae`, `sae_width`, `latent_idx`, `umap_x`, `umap_y`, and `cluster` (-1: noise) if asked."""
    left_out: pd.DataFrame
    """Latents without a place: `sae`, `sae_width`, `latent_idx`, `reason`."""
    neighbors: Neighbors
    """Nearest latents of each, itself first, as row numbers of `points`."""
    config: MapConfig
    """Settings it was made with."""
    clusters: ClusterGeometry | None = None
    """How tight each cluster is and which latent is most typical of it; None if not asked for."""


def compute_map(
    saes: DecoderRows | Sequence[LabelledSae],
    config: MapConfig | None = None,
    *,
    hidden: Mapping[str, Bool[Any, " d_sae"]] | None = None,
    store: ResultStore | None = None,
    fit: Fit | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> SplittingMap:
    """Neighbours, layout and, if the config says so, clusters of the SAEs' decoder directions.

    Args:
        saes: SAEs of one site, or their rows (`decoder_rows`, made while the SAEs may be touched).
        config: how; by default as `MapConfig()` says.
        hidden: latents to leave out as dead, by label; only with SAEs, rows are without them.
        store: where to look for and keep neighbours, coordinates and clusters.
        fit: what runs UMAP and HDBSCAN, `worker.run` in the app; by default this process, in which
            they must not be run by two threads.
        device: where neighbours are computed; by default where the directions are.
        progress: told of the stages; cancelling through it takes under a second in the worker.

    Raises:
        ValueError: SAEs that do not go together, or fewer latents than neighbours are asked for.
    """
    config = config or MapConfig()
    rows = _rows(saes, hidden, device)
    if len(rows) < FEWEST_LATENTS:
        raise ValueError(
            f"There are {len(rows)} latents to place; a map needs {FEWEST_LATENTS} or more. Choose "
            "wider SAEs, add another one, or hide fewer latents."
        )
    if len(rows) < config.k + 1:
        raise ValueError(
            f"There are {len(rows)} latents to place and {config.k} neighbours asked for; choose "
            f"wider SAEs, hide fewer latents, or use {len(rows) - 1} neighbours or fewer."
        )
    kept: ResultStore = Memory() if store is None else store
    neighbors = neighbors_of(rows, config.k, store=kept, progress=progress)
    work = _Work(rows, config, neighbors, kept, fit or run_here, progress)
    xy = work.points()["points"]
    points = rows.frame()
    points["umap_x"], points["umap_y"] = xy[:, 0], xy[:, 1]
    clusters = None
    if config.clusters:
        found = work.clusters()
        points["cluster"] = found["labels"]
        clusters = ClusterGeometry(found["compactness"], found["medoids"])
    return SplittingMap(points, rows.left_out, neighbors, config, clusters)


def run_here(function: str, *args: Any, progress: Any = None, **kwargs: Any) -> Any:
    """A `Fit` in this process."""
    return find_function(function)(*args, **kwargs, progress=progress)


@dataclass(frozen=True)
class _Work:
    """What one map is made from."""

    rows: DecoderRows
    config: MapConfig
    neighbors: Neighbors
    store: ResultStore
    fit: Fit
    progress: Progress | None

    def points(self) -> dict[str, np.ndarray]:
        """`points` [n, 2]."""
        key = _layout_key(self.rows, self.config.layout)
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
        arrays = self.store.get(_layout_key(self.rows, self.config.cluster_layout), ARRAYS)
        return None if arrays is None else arrays["points"]

    def _keep_embedding(self, embedding: np.ndarray) -> None:
        key = _layout_key(self.rows, self.config.cluster_layout)
        self.store.keep(key, {"points": embedding}, ARRAYS)

    def _described(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        found = cluster_geometry(self.rows.directions, labels)
        return {"labels": labels, "compactness": found.compactness, "medoids": found.medoids}


def _layout_key(rows: DecoderRows, settings: Mapping[str, Any]) -> Key:
    parameters = {"directions": rows.digest, "umap": version("umap-learn"), **settings}
    return Key("splitting-layout", layout.VERSION, parameters)


def _cluster_key(rows: DecoderRows, config: MapConfig) -> Key:
    parameters = {
        "layout": _layout_key(rows, config.cluster_layout).digest,
        "hdbscan": version("hdbscan"),
        "min_cluster_size": config.min_cluster_size,
    }
    return Key("splitting-clusters", layout.VERSION, parameters)


def _rows(
    saes: DecoderRows | Sequence[LabelledSae],
    hidden: Mapping[str, Any] | None,
    device: str | torch.device | None,
) -> DecoderRows:
    if not isinstance(saes, DecoderRows):
        return decoder_rows(saes, hidden=hidden, device=device)
    if hidden:
        raise ValueError("Rows are given already; give hidden to decoder_rows instead.")
    if device is not None:
        return replace(saes, directions=saes.directions.to(device))
    return saes


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
