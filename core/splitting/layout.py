"""Where do the latents lie, and which lie together? UMAP and HDBSCAN, given the neighbours.

Everything here takes and gives NumPy arrays, and runs in the worker process (`core.worker`): it
compiles with numba, which two threads of one process must not share. The coordinates are those of
`umap.UMAP(metric="cosine", random_state=, precomputed_knn=, n_epochs=, learning_rate=)`, to the
bit; UMAP's parts are called one by one, so that two layouts share a graph side by side.

A map has shorter steps than UMAP's: its start, eigenvectors of the graph, is good already, and long
steps undo it. Trustworthiness (15 neighbours, cosine) of the demo's 16,128 rows is 0.708 after 200
epochs with steps of 0.25, with UMAP's steps of 1 0.695 after 200 and 0.707 after 500; of as many
planted ones 0.921, 0.912 and 0.922, of the demo's 32,512 rows 0.684, 0.663 and 0.677. In ten
dimensions, 150 epochs with steps of 0.5 give 0.871 and 0.940, UMAP's 200 with 1 0.869 and 0.942.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

log = logging.getLogger(__name__)
_this_thread = threading.local()
VERSION = 3
"""Raised whenever the coordinates or labels would change."""
_FEW_ROWS = 10_000
_MAP_OF_FEW, _MAP_OF_MANY = (300, 0.25), (200, 0.25)
"""Epochs of a map of up to so many rows and the size of the first steps; and of more rows."""
_TEN_OF_FEW, _TEN_OF_MANY = (500, 1.0), (150, 0.5)
"""The same of the layout for clusters; the first is UMAP's default."""


class Reports(Protocol):
    """The part of `Progress` that is used here; in the worker process it is a stand-in."""

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """Report that `done` of `total` units are finished."""


@dataclass
class _Behind:
    """Progress of a layout beside another: ends it when asked, and reports once that is done."""

    stop: threading.Event = field(default_factory=threading.Event)
    reports: Reports | None = None

    def update(self, done: float, total: float | None = None, **said: str) -> None:
        if self.stop.is_set():
            raise CancelledError
        if self.reports is not None:
            self.reports.update(done, total, **said)


def fit_layout(
    directions: Float[np.ndarray, "n d"],
    ids: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    *,
    layout: Mapping[str, Any],
    progress: Reports | None = None,
) -> Float[np.ndarray, "n n_components"]:
    """Coordinates in float32, by `layout`: n_components, n_neighbors, min_dist, seed.

    `ids` and `distances` are the n_neighbors nearest rows of each row or more, itself first.
    `directions` are only looked at where the neighbours fall into many separate parts.
    """
    graph = _graph(ids, distances, layout["n_neighbors"])
    return _embed(
        *(directions, graph, layout),
        *schedule(len(directions)),
        progress=progress,
        message="Drawing the map",
    )


def fit_clusters(
    directions: Float[np.ndarray, "n d"],
    ids: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    *,
    layout: Mapping[str, Any],
    min_cluster_size: int,
    progress: Reports | None = None,
) -> dict[str, np.ndarray]:
    """`embedding` [n, n_components] by `layout` (see `fit_layout`) and `labels` [n] in it."""
    graph = _graph(ids, distances, layout["n_neighbors"])
    embedding = _embed(
        *(directions, graph, layout),
        *schedule(len(directions), clusters=True),
        progress=progress,
        message="Layout for clusters",
    )
    labels = label_clusters(embedding, min_cluster_size=min_cluster_size, progress=progress)
    return {"embedding": embedding, "labels": labels}


def fit_both(
    directions: Float[np.ndarray, "n d"],
    ids: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    *,
    layout: Mapping[str, Any],
    cluster_layout: Mapping[str, Any],
    min_cluster_size: int,
    progress: Reports | None = None,
) -> dict[str, np.ndarray]:
    """`points` as of `fit_layout`, `embedding` and `labels` as of `fit_clusters`, side by side.

    Each is fitted in a thread of its own (the arithmetic of an epoch lets go of the interpreter);
    progress is that of the one that ends in clusters, and then what is left of the map's.
    """
    # Both before the first thread: making a graph runs code of numba that is not thread-safe.
    graph = _graph(ids, distances, layout["n_neighbors"])
    same = cluster_layout["n_neighbors"] == layout["n_neighbors"]
    cluster_graph = graph if same else _graph(ids, distances, cluster_layout["n_neighbors"])
    behind = _Behind()
    with ThreadPoolExecutor(1) as other_thread:
        points = other_thread.submit(
            _embed,
            *(directions, graph, layout),
            *schedule(len(directions)),
            progress=behind,
            message="Drawing the map",
        )
        try:
            embedding = _embed(
                *(directions, cluster_graph, cluster_layout),
                *schedule(len(directions), clusters=True),
                progress=progress,
                message="Drawing the map, and the layout for clusters",
            )
            labels = label_clusters(embedding, min_cluster_size=min_cluster_size, progress=progress)
        except BaseException:
            behind.stop.set()
            raise
        behind.reports = progress
        return {"points": points.result(), "embedding": embedding, "labels": labels}


def label_clusters(
    embedding: Float[np.ndarray, "n d"],
    *,
    min_cluster_size: int,
    progress: Reports | None = None,
) -> Int[np.ndarray, " n"]:
    """Cluster of each row by HDBSCAN, from 0 up, or -1 for noise (int32)."""
    from hdbscan import HDBSCAN

    reports = progress or _Behind()
    reports.update(0, 1, unit="clusterings", message="Looking for clusters")
    # One process: the result is the same, and a killed worker leaves no others behind.
    found = HDBSCAN(min_cluster_size=min_cluster_size, core_dist_n_jobs=1).fit(embedding)
    reports.update(1, 1, unit="clusterings", message="Looking for clusters")
    return found.labels_.astype(np.int32)


def warm_up() -> None:
    """Have numba compile what layouts need before the first map."""
    directions = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    apart = np.linalg.norm(directions[:, None] - directions, axis=2)
    ids = np.argsort(apart, axis=1)[:, :8].astype(np.int32)
    distances = np.take_along_axis(apart, ids, axis=1)
    alike = {"n_components": 2, "n_neighbors": 8, "min_dist": 0.1, "seed": 0}
    fit_both(directions, ids, distances, layout=alike, cluster_layout=alike, min_cluster_size=3)


def _graph(
    ids: Int[np.ndarray, "n k"], distances: Float[np.ndarray, "n k"], n_neighbors: int
) -> coo_matrix:
    """UMAP's fuzzy simplicial set. Raises `ValueError` for too few neighbours."""
    from umap.umap_ import fuzzy_simplicial_set

    n, k = ids.shape
    if k < n_neighbors:
        raise ValueError(f"{k} neighbours of each row are given and {n_neighbors} needed.")
    with _one_numba_thread():
        # Of the data, this reads the number of rows; of neighbours, all that it is given.
        return fuzzy_simplicial_set(
            np.empty((n, 0), dtype=np.float32),
            n_neighbors,
            random_state=None,
            metric="cosine",
            knn_indices=ids[:, :n_neighbors],
            knn_dists=distances[:, :n_neighbors],
        )[0]


def _embed(
    directions: Float[np.ndarray, "n d"],
    graph: coo_matrix,
    layout: Mapping[str, Any],
    n_epochs: int,
    step: float,
    *,
    progress: Reports | None,
    message: str,
) -> Float[np.ndarray, "n n_components"]:
    """UMAP's embedding of the graph, from its spectral start where that exists."""
    from umap.distances import named_distances
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    _hook_into_epochs()
    # A connected graph of few rows has too few eigenvectors to start from.
    few = graph.shape[0] <= layout["n_components"] + 1
    a, b = find_ab_params(1.0, layout["min_dist"])
    with _each_epoch(progress, n_epochs, message):
        embedding, _ = simplicial_set_embedding(
            directions,
            graph.copy(),  # weak edges are taken out of it in place
            n_components=layout["n_components"],
            initial_alpha=step,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=n_epochs,
            init="random" if few and connected_components(graph)[0] == 1 else "spectral",
            random_state=np.random.RandomState(layout["seed"]),
            metric=named_distances["cosine"],
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
            parallel=False,
            tqdm_kwds={"disable": True},
        )
    return np.ascontiguousarray(embedding, dtype=np.float32)


def schedule(n_rows: int, *, clusters: bool = False) -> tuple[int, float]:
    """Epochs of a layout of so many rows, and the size of its first steps."""
    if n_rows <= _FEW_ROWS:
        return _TEN_OF_FEW if clusters else _MAP_OF_FEW
    return _TEN_OF_MANY if clusters else _MAP_OF_MANY


@contextmanager
def _one_numba_thread() -> Iterator[None]:
    """Sums come out the same whatever the machine: their order depends on the number of threads."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def _each_epoch(progress: Reports | None, n_epochs: int, message: str) -> Iterator[None]:
    """Have the epochs that this thread runs meanwhile reported, and stopped if that raises."""
    epochs, reports = count(), progress or _Behind()

    def report() -> None:
        reports.update(next(epochs), n_epochs, unit="epochs", message=message)

    reports.update(0, n_epochs, unit="epochs", message=message)  # its start takes a while
    _this_thread.report = report
    try:
        yield
    finally:
        del _this_thread.report
    report()


@cache
def _hook_into_epochs() -> None:
    """Have UMAP call back before each epoch, and run epochs without the interpreter's lock.

    What is put in place of UMAP's function for one epoch is that function, compiled with one more
    flag that changes nothing in its arithmetic: other threads can run Python meanwhile. A later
    UMAP without a function of that name still fits layouts, one by one and without reports.
    """
    import numba
    from umap import layouts

    source = getattr(layouts, "_optimize_layout_euclidean_single_epoch", None)
    if source is None or not hasattr(layouts, "_nb_optimize_layout_euclidean_single_epoch"):
        log.warning("This version of umap-learn reports no epochs of a layout.")
        return
    compiled = numba.njit(source, fastmath=True, nogil=True)

    def epoch(*arguments: Any) -> None:
        report = getattr(_this_thread, "report", None)
        if report is not None:
            report()
        compiled(*arguments)

    layouts._nb_optimize_layout_euclidean_single_epoch = epoch
