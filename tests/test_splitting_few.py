"""Maps of few latents: every size that settings allow works, and the others say what is needed."""

import numpy as np
import pytest

from core.splitting.clusters import cluster_labels, cluster_table, noise_share
from core.splitting.map import SplittingMap, compute_map
from core.splitting.map_config import MapConfig
from core.splitting.rows import LabelledSae
from core.worker import WorkerProcess
from tests.splitting_sets import directions, sae_of

pytestmark = pytest.mark.slow

SIZES = (1, 2, 3, 5, 16, 17, 18)


def saes_of(n: int) -> list[LabelledSae]:
    return [LabelledSae("a", sae_of(directions(n, 24)))]


def config(n: int, *, clusters: bool) -> MapConfig:
    """With the most neighbours that so many latents have, up to the default."""
    k = max(2, min(15, n - 1))
    return MapConfig(n_neighbors=k, n_neighbors_cluster=k, clusters=clusters)


def check(found: SplittingMap, n: int) -> None:
    xy = found.points[["umap_x", "umap_y"]].to_numpy()
    assert np.isfinite(xy).all()
    assert len(np.unique(xy, axis=0)) == n
    assert found.points["latent_idx"].tolist() == list(range(n))


@pytest.mark.parametrize("clusters", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_maps_of_few_latents(n: int, clusters: bool) -> None:
    if n < 3:
        with pytest.raises(ValueError, match=f"{n} latents to place; a map needs 3 or more"):
            compute_map(saes_of(n), config(n, clusters=clusters))
        return
    found = compute_map(saes_of(n), config(n, clusters=clusters))
    check(found, n)
    again = compute_map(saes_of(n), config(n, clusters=clusters))
    columns = ["umap_x", "umap_y", *(["cluster"] if clusters else [])]
    assert found.points[columns].equals(again.points[columns])
    if clusters:
        table = cluster_table(found, ["a word"] * n, [["a"]] * n)
        assert len(cluster_labels(found, table)) == len(table)
        inside = int(table["size"].sum()) if len(table) else 0
        assert inside == round(n * (1 - noise_share(found)))


@pytest.mark.parametrize("n", [3, 5, 11, 12, 17])
def test_few_neighbours_of_few_latents(n: int) -> None:
    """Graphs that fall apart, and graphs that hang together."""
    for k in {2, 3, n // 2} & set(range(2, n)):
        settings = MapConfig(n_neighbors=k, n_neighbors_cluster=k, clusters=True)
        check(compute_map(saes_of(n), settings), n)


@pytest.mark.parametrize("n", [5, 15])
def test_the_default_says_which_neighbours_would_do(n: int) -> None:
    with pytest.raises(ValueError, match=f"There are {n} .*use {n - 1} neighbours or fewer"):
        compute_map(saes_of(n))


def test_in_the_worker_as_here() -> None:
    with WorkerProcess() as worker:
        for n in (3, 5, 16):
            there = compute_map(saes_of(n), config(n, clusters=True), fit=worker.run)
            here = compute_map(saes_of(n), config(n, clusters=True))
            assert there.points.equals(here.points)
