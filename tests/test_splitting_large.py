"""Maps of very many latents: approximate neighbours that say how good they are, a sample first."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from sklearn.manifold import trustworthiness

from benchmarks.million_rows import planted_million
from core.jobs.progress import JobCancelled, Progress
from core.splitting.descent import DESCEND, approximate_neighbors, descend, nearest_of
from core.splitting.fits import run_here
from core.splitting.large_config import LargeMap
from core.splitting.large_layout import places_from_sample, sample_of
from core.splitting.large_map import SETTLE
from core.splitting.large_time import SEARCH_SECONDS, seconds_left, seconds_of_parts
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.neighbors import exact_neighbors, neighbors_of
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from tests.splitting_sets import Counted, directions, sae_of

SMALL = LargeMap(above=500, judged_rows=300, sample_rows=400, epochs=30, tried_rows=256)
N = 1500


class Searched(Counted):
    """A `Fit` whose search for neighbours is exact: numba compiles that of pynndescent too long."""

    def __call__(self, function, *args, progress=None, **settings):
        if function == SEARCH_SECONDS:
            return 0.5
        if function != DESCEND:
            return super().__call__(function, *args, progress=progress, **settings)
        self.asked.append("descend")
        found = exact_neighbors(torch.from_numpy(np.load(args[0])), args[1])
        return found.ids, found.distances


@pytest.fixture(scope="module")
def planted():
    return planted_million(N, 64)


@pytest.fixture(scope="module")
def drawn(planted, tmp_path_factory):
    """The map of planted rows with clusters, its store, and what ran in the worker's place."""
    rows, _ = planted
    store, fit = Store(tmp_path_factory.mktemp("large")), Searched()
    saes = [LabelledSae("planted", sae_of(rows))]
    config = MapConfig(clusters=True)
    return compute_map(saes, config, store=store, fit=fit, large=SMALL), store, fit


@pytest.mark.parametrize("n_tiles", [1, 3])
def test_tiles_find_what_a_sort_finds(monkeypatch, n_tiles):
    monkeypatch.setattr("core.splitting.descent._TILE_COLUMNS", 300 // n_tiles)
    rows = directions(300, 12)
    rows[7] = rows[3]
    own = torch.tensor([3, 7, 299, 0])
    cosines, ids = nearest_of(rows[own], rows, 9, own=own)
    exact = exact_neighbors(rows, 9)
    np.testing.assert_array_equal(ids[:, 0], own)
    np.testing.assert_allclose(1 - cosines.numpy(), exact.distances[own.numpy()], atol=1e-6)


@pytest.mark.slow
def test_the_recall_is_that_of_an_exact_search(planted):
    rows, _ = planted
    # Told to look for no more than is wanted, and of few rows, it does not find all.
    found = approximate_neighbors(
        rows, 16, fit=run_here, config=replace(SMALL, least_searched=16, judged_rows=N)
    )
    exact = exact_neighbors(rows, 16)
    hits = [len({*a} & {*b}) for a, b in zip(exact.ids, found.ids, strict=True)]
    assert found.recall == pytest.approx(np.mean(hits) / 16, abs=1e-3)
    assert 0.9 < found.recall <= 1
    np.testing.assert_array_equal(found.ids[:, 0], np.arange(N))
    between = 1 - (rows[:, None] * rows[found.ids.astype(np.int64)]).sum(-1).numpy()
    np.testing.assert_allclose(found.distances, between, atol=1e-5)


def test_what_was_missed_lowers_the_recall(planted):
    rows, _ = planted
    search = Searched()

    def without_the_second(function, path, k, **settings):
        ids, distances = search(function, path, k + 1, **settings)
        return np.delete(ids, 1, axis=1), np.delete(distances, 1, axis=1)

    found = approximate_neighbors(rows, 16, fit=without_the_second, config=SMALL)
    assert found.recall == pytest.approx(15 / 16, abs=1e-3)


def test_too_few_rows_for_the_neighbours(planted):
    with pytest.raises(ValueError, match="k is 6 for 5 rows; ask for 1 to 5 neighbours"):
        approximate_neighbors(planted[0][:5], 6, fit=run_here)


@pytest.mark.slow
def test_copies_come_after_the_row_itself(tmp_path):
    rows = directions(40, 6).repeat(3, 1)
    np.save(tmp_path / "rows.npy", rows.numpy())
    ids, distances = descend(str(tmp_path / "rows.npy"), 8, searched=20, seed=0)
    np.testing.assert_array_equal(ids[:, 0], np.arange(120))
    np.testing.assert_array_equal(distances[:, 0], 0)
    assert (ids[:, 1:] != np.arange(120)[:, None]).mean() > 0.99
    assert (distances[:, 1:3] < 1e-5).mean() > 0.9


def test_few_rows_stay_exact_and_many_say_their_recall(planted, tmp_path):
    rows = decoder_rows([LabelledSae("a", sae_of(planted[0]))])
    store = Store(tmp_path)
    exact = neighbors_of(rows, 15, store=store, large=replace(SMALL, above=N))
    assert exact.recall is None
    near = neighbors_of(rows, 15, store=store, large=SMALL, fit=Searched())
    assert near.recall == 1
    assert near.judged == 300
    again = neighbors_of(rows, 9, store=store, large=SMALL, fit=None)
    np.testing.assert_array_equal(again.ids, near.ids[:, :9])
    assert again.recall == near.recall


def test_planted_groups_lie_together_and_are_clusters(planted, drawn):
    rows, group = planted
    found, _, fit = drawn
    points = found.points[["umap_x", "umap_y"]].to_numpy()
    near = KDTree(points).query(points, k=6)[1][:, 1:]
    assert (group[near] == group[:, None]).mean() > 0.9
    assert trustworthiness(rows.numpy(), points, n_neighbors=15, metric="cosine") > 0.9
    labels = found.points["cluster"].to_numpy()
    inside = labels >= 0
    assert inside.mean() > 0.6
    of_most = sum(
        np.bincount(group[labels == one]).max() for one in range(labels.max(initial=-1) + 1)
    )
    assert of_most / inside.sum() > 0.9
    assert fit.asked.count(SETTLE.partition(":")[2]) == 1
    assert found.clusters is not None
    assert (labels[found.clusters.medoids] == np.arange(len(found.clusters.medoids))).all()


def test_the_map_says_what_was_not_done_in_full(drawn):
    said = drawn[0].shortcuts
    assert f"{drawn[0].neighbors.recall:.1%} of the nearest were found" in said
    assert "A random sample of 400 latents was laid out first" in said
    assert "moved for 30 epochs" in said
    assert "Clusters are those of the sample" in said


def test_a_map_that_is_kept_is_not_made_again(planted, drawn):
    found, store, _ = drawn
    again = Searched()
    saes = [LabelledSae("planted", sae_of(planted[0]))]
    same = compute_map(saes, MapConfig(clusters=True), store=store, fit=again, large=SMALL)
    assert again.asked == []
    np.testing.assert_array_equal(same.points["umap_x"], found.points["umap_x"])
    np.testing.assert_array_equal(same.points["cluster"], found.points["cluster"])
    assert same.shortcuts == found.shortcuts


class Refusing:
    """A `Fit` that has nothing to do."""

    def __call__(self, function, *args, progress=None, **settings):
        raise AssertionError(f"{function} was asked for")


def test_nothing_is_measured_for_a_map_that_is_kept(planted, drawn):
    found, store, _ = drawn
    saes = [LabelledSae("planted", sae_of(planted[0]))]
    same = compute_map(
        saes,
        MapConfig(clusters=True),
        store=store,
        fit=Refusing(),
        large=SMALL,
        progress=Progress(),
    )
    np.testing.assert_array_equal(same.points["umap_x"], found.points["umap_x"])
    left = seconds_left(decoder_rows(saes), MapConfig(clusters=True), SMALL, Refusing(), store)
    assert left == (0, 0, 0, 0)


def test_what_is_kept_takes_no_time(planted, drawn, tmp_path):
    rows = decoder_rows([LabelledSae("planted", sae_of(planted[0]))])
    config, store = MapConfig(clusters=True), Store(tmp_path)
    every = seconds_left(rows, config, SMALL, Searched(), store)
    assert all(part > 0 for part in every)
    neighbors_of(rows, config.k, store=store, large=SMALL, fit=Searched())
    left = seconds_left(rows, config, SMALL, Searched(), store)
    assert left[0] == 0
    assert all(part > 0 for part in left[1:])
    # Clusters of a map whose places are kept: the sample's layout for clusters alone.
    compute_map(rows, MapConfig(), store=store, fit=Searched(), large=SMALL)
    left = seconds_left(rows, config, SMALL, Searched(), store)
    assert [part > 0 for part in left] == [False, False, True, False]
    assert seconds_left(rows, MapConfig(), SMALL, Refusing(), store) == (0, 0, 0, 0)


def test_a_small_map_has_no_shortcuts(planted):
    found = compute_map([LabelledSae("a", sae_of(planted[0][:200]))], large=SMALL)
    assert found.shortcuts == ""
    assert found.large is None


def test_rows_far_from_all_of_the_sample_follow_its_nearest():
    rows = directions(60, 8)
    sample = np.arange(10)
    # Neighbours that never lead to the sample: each row knows only itself and the next one.
    ids = np.stack([np.arange(60), np.r_[np.arange(1, 60), 59]], axis=1).astype(np.int32)
    ids[9, 1] = 8
    xy = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    places, follows = places_from_sample(
        rows, ids, np.full((60, 2), 0.5, np.float32), sample, xy, seed=0
    )
    nearest = (rows @ rows[:10].T).argmax(dim=1).numpy()
    np.testing.assert_array_equal(follows[10:], nearest[10:])
    np.testing.assert_array_equal(places[:10], xy)
    np.testing.assert_allclose(places[10:], xy[nearest[10:]], atol=0.2)


def test_the_time_is_told_beforehand(planted):
    rows = decoder_rows([LabelledSae("a", sae_of(planted[0]))])
    parts = seconds_of_parts(rows, MapConfig(clusters=True), SMALL, Searched())
    assert len(parts) == 4
    assert all(part > 0 for part in parts)
    told = []

    class Noted(Progress):
        def plan(self, *seconds: float) -> None:
            told.append(seconds)
            super().plan(*seconds)

    progress = Noted()
    compute_map(rows, large=SMALL, progress=progress, fit=Searched())
    assert len(told) == 1
    assert progress.view().planned == pytest.approx(1)


def test_a_large_map_can_be_cancelled(planted):
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        compute_map([LabelledSae("a", sae_of(planted[0]))], large=SMALL, progress=progress)


def test_samples_are_the_seeds():
    chosen = sample_of(1000, SMALL, seed=3)
    np.testing.assert_array_equal(chosen, sample_of(1000, SMALL, seed=3))
    assert len(np.unique(chosen)) == 400
    assert (np.diff(chosen) > 0).all()
    assert len(sample_of(100, SMALL, seed=0)) == 100
