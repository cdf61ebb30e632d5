"""Where do a million latents lie? A sample is laid out, the rest placed, and then all are moved.

UMAP's start (eigenvectors of the graph) and its hundreds of epochs take hours for so many rows.
What they are for, who lies where on the whole, a sample tells: UMAP lays it out as it does a small
map. Each other row starts where its nearest neighbours are, and some epochs of UMAP for the graph
of all rows then settle who is near whom. `settle` runs in the worker process (numba).
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting import layout as small
from core.splitting.descent import nearest_of
from core.splitting.large_config import LargeMap

VERSION = 2
"""Raised whenever the coordinates or labels would change."""
_ROUNDS = 12
_JITTER = 0.02
"""Rows that start at one place are told apart by so much, in units of the map."""
_TRIED_EPOCHS = 4


def sample_of(n: int, config: LargeMap, *, seed: int) -> Int[np.ndarray, " m"]:
    """Rows that are laid out first, ascending."""
    chosen = np.random.default_rng(seed).permutation(n)[: config.sample_rows]
    return np.sort(chosen)


@torch.no_grad()
def places_from_sample(
    directions: Float[Tensor, "n d"],
    ids: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    sample: Int[np.ndarray, " m"],
    xy: Float[np.ndarray, "m 2"],
    *,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """A place for each row to start at, and the row of `sample` that it follows.

    A row lies where its placed neighbours do on average, nearer ones counting more; those without
    one wait for neighbours that have. Where nobody is placed near, the exactly nearest row of the
    sample decides.
    """
    n = len(ids)
    places = np.zeros((n, 2), dtype=np.float32)
    places[sample] = xy
    follows = np.full(n, -1, dtype=np.int32)
    follows[sample] = np.arange(len(sample))
    weights = np.exp(-distances[:, 1:] / max(float(np.median(distances[:, 1:])), 1e-6))
    for _ in range(_ROUNDS):
        if progress is not None:
            progress.check()
        waiting = np.flatnonzero(follows < 0)
        found = _placed_by_neighbors(waiting, ids, weights, places, follows)
        if not len(found):
            break
    lost = np.flatnonzero(follows < 0)
    if len(lost):
        chosen = torch.as_tensor(sample, device=directions.device)
        rows = torch.as_tensor(lost, device=directions.device)
        _, nearest = nearest_of(directions[rows], directions[chosen], 1, progress=progress)
        follows[lost] = nearest[:, 0].cpu().numpy()
        places[lost] = xy[follows[lost]]
    moved = np.ones(n, dtype=bool)
    moved[sample] = False
    noise = np.random.default_rng(seed).normal(scale=_JITTER, size=(n, 2)).astype(np.float32)
    places[moved] += noise[moved]
    return places, follows


def _placed_by_neighbors(
    waiting: Int[np.ndarray, " w"],
    ids: Int[np.ndarray, "n k"],
    weights: Float[np.ndarray, "n k1"],
    places: Float[np.ndarray, "n 2"],
    follows: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " f"]:
    """Place those of `waiting` that have a placed neighbour; they are returned."""
    near = ids[waiting, 1:]
    known: Bool[np.ndarray, "w k1"] = follows[near] >= 0
    has = known.any(axis=1)
    rows, near, known = waiting[has], near[has], known[has]
    share = np.where(known, weights[rows], 0)
    share /= share.sum(axis=1, keepdims=True)
    counts = np.arange(len(rows) + 1) * near.shape[1]
    mean = csr_array((share.ravel(), near.ravel(), counts), shape=(len(rows), len(places)))
    there, first = mean @ places, near[np.arange(len(rows)), known.argmax(axis=1)]
    leaders = follows[first]
    places[rows], follows[rows] = there, leaders
    return rows


def settle(
    ids: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    start: Float[np.ndarray, "n 2"],
    *,
    layout: Mapping[str, Any],
    epochs: int,
    alpha: float,
    progress: small.Reports | None = None,
) -> Float[np.ndarray, "n 2"]:
    """Coordinates after some epochs of UMAP from `start` on, for the graph of all rows.

    The same rows, start and settings give the same coordinates, to the bit.
    """
    from umap.layouts import optimize_layout_euclidean
    from umap.umap_ import find_ab_params, make_epochs_per_sample

    if progress is not None:
        progress.update(0, epochs, unit="epochs", message="Graph of all neighbours")
    graph = small._graph(ids, distances, layout["n_neighbors"])
    # As UMAP does: edges too weak to be drawn once are left out.
    graph.data[graph.data < graph.data.max() / epochs] = 0.0
    graph.eliminate_zeros()
    edges = graph.tocoo()
    a, b = find_ab_params(1.0, layout["min_dist"])
    small._hook_into_epochs()
    rng = np.random.RandomState(layout["seed"]).randint(-(2**31) + 1, 2**31 - 1, 3)
    places = np.ascontiguousarray(start, dtype=np.float32).copy()
    with small._each_epoch(progress, epochs, "Moving all latents"):
        optimize_layout_euclidean(
            places,
            places,
            edges.row,
            edges.col,
            epochs,
            len(places),
            make_epochs_per_sample(edges.data, epochs),
            a,
            b,
            rng.astype(np.int64),
            initial_alpha=alpha,
            parallel=False,
            move_other=True,
            tqdm_kwds={"disable": True},
        )
    return places


def seconds_of_layout(
    n: int, k: int, *, config: LargeMap, progress: small.Reports | None = None
) -> tuple[float, float]:
    """About how long laying out the sample and moving all rows take here, by a trial of some rows.

    Their edges are drawn at random, and so many that no cache holds them, as of a large map.
    """
    if progress is not None:
        progress.update(0, 1, message="Measuring how long the map will take")
    m = min(n, 8 * config.tried_rows)
    rng = np.random.default_rng(0)
    ids = np.concatenate([np.arange(m)[:, None], rng.integers(0, m, (m, k - 1))], 1)
    ids = ids.astype(np.int32)
    distances = np.sort(rng.random((m, k)), axis=1).astype(np.float32)
    distances[:, 0] = 0
    start = rng.normal(scale=5, size=(m, 2)).astype(np.float32)
    layout = {"n_neighbors": k, "min_dist": 0.1, "seed": 0}
    settle(ids[:64] % 64, distances[:64], start[:64], layout=layout, epochs=2, alpha=1.0)
    began = time.perf_counter()
    settle(ids, distances, start, layout=layout, epochs=_TRIED_EPOCHS, alpha=1.0)
    a_row = (time.perf_counter() - began) / (m * _TRIED_EPOCHS)
    epochs, _ = small.schedule(config.sample_rows)
    return a_row * config.sample_rows * epochs, a_row * n * config.epochs
