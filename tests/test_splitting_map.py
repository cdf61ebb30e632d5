"""The map is UMAP's and HDBSCAN's own, given exact neighbours; its parts are fitted once."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from core.jobs.progress import JobCancelled, Progress
from core.splitting.layout import fit_clusters, fit_layout, warm_up
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.rows import ALL_ZERO, DEAD, NOT_FINITE, LabelledSae, decoder_rows
from core.store import Store
from core.worker import WorkerProcess
from tests.builders import make_sae
from tests.splitting_sets import HOOK, Counted, directions, planted, sae_of

pytestmark = pytest.mark.slow

CONFIG = MapConfig(n_neighbors=10, n_neighbors_cluster=8, clusters=True, min_cluster_size=6, seed=3)


@pytest.fixture(scope="module")
def saes():
    return planted()[0]


@pytest.fixture(scope="module")
def found(saes):
    return compute_map(saes, CONFIG)


def xy(found):
    return found.points[["umap_x", "umap_y"]].to_numpy()


def plain_umap(rows, neighbors, **settings):
    from umap import UMAP

    k = settings["n_neighbors"]
    knn = (neighbors.ids[:, :k].copy(), neighbors.distances[:, :k].copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if settings["n_components"] == 2:  # as maps have it; clusters have UMAP's defaults
            settings = {"n_epochs": 300, "learning_rate": 0.25, **settings}
        umap = UMAP(metric="cosine", precomputed_knn=knn, **settings)
        return umap.fit_transform(rows.directions.numpy())


# --- The same answer as the libraries ---


def test_map_is_that_of_umap_and_hdbscan(saes, found):
    from hdbscan import HDBSCAN

    rows = decoder_rows(saes)
    settings = {"n_neighbors": 10, "min_dist": 0.05, "random_state": 3}
    plain = plain_umap(rows, found.neighbors, n_components=2, **settings)
    np.testing.assert_array_equal(xy(found), plain)
    settings = {"n_neighbors": 8, "min_dist": 0.1, "random_state": 3}
    embedding = plain_umap(rows, found.neighbors, n_components=10, **settings)
    labels = HDBSCAN(min_cluster_size=6).fit(embedding).labels_
    np.testing.assert_array_equal(found.points["cluster"], labels)


def test_many_separate_parts_are_placed_as_umap_places_them():
    # 40 groups of 8 rows, far from each other: more parts than UMAP's start has dimensions for.
    groups = torch.eye(40).repeat_interleave(8, dim=0)
    rows = decoder_rows([LabelledSae("a", sae_of(groups + 0.05 * directions(320, 40)))])
    found = compute_map(rows, MapConfig(n_neighbors=5))
    plain = plain_umap(
        rows, found.neighbors, n_components=2, n_neighbors=5, min_dist=0.05, random_state=0
    )
    np.testing.assert_array_equal(xy(found), plain)


@pytest.mark.parametrize(("fit", "epochs"), [(fit_layout, 200), (fit_clusters, 150)])
def test_many_rows_have_fewer_epochs(fit, epochs):
    class Heard(Exception):
        pass

    class Listener:
        def update(self, done, total=None, *, unit="", message=""):
            assert (total, unit) == (epochs, "epochs")
            raise Heard

    n, k = 10_001, 5
    ids = ((np.arange(n)[:, None] + np.arange(k)) % n).astype(np.int32)
    distances = np.tile(np.linspace(0, 1, k, dtype=np.float32), (n, 1))
    layout = {"n_components": 2, "n_neighbors": k, "min_dist": 0.1, "seed": 0}
    more = {"min_cluster_size": 3} if fit is fit_clusters else {}
    rows = np.zeros((n, 2), dtype=np.float32)
    with pytest.raises(Heard):
        fit(rows, ids, distances, layout=layout, progress=Listener(), **more)


def test_many_copies_of_a_latent_have_places():
    rows = directions(160, 16)
    saes = [LabelledSae("a", sae_of(torch.cat([rows, rows[:1].repeat(40, 1)])))]
    found = compute_map(saes, MapConfig(n_neighbors=5))
    assert np.isfinite(xy(found)).all()
    from_first = np.linalg.norm(xy(found) - xy(found)[0], axis=1)
    assert from_first[160:].max() < np.median(from_first[1:160])


def test_same_seed_same_map_in_another_process_and_alone(saes, found):
    with WorkerProcess(warm=()) as worker:
        fit, progress = Counted(worker.run), Progress()
        there = compute_map(saes, CONFIG, fit=fit, progress=progress)
        assert fit.asked == ["fit_both"]
        assert progress.view().fraction == 1
        pd.testing.assert_frame_equal(there.points, found.points)
        # Not side by side with the layout for clusters, but by itself.
        alone = compute_map(saes, replace(CONFIG, clusters=False), fit=fit)
        np.testing.assert_array_equal(xy(alone), xy(found))
        assert "cluster" not in alone.points
        assert fit.asked == ["fit_both", "fit_layout"]


def test_another_seed_another_map(saes, found):
    assert not np.array_equal(
        xy(compute_map(saes, replace(CONFIG, clusters=False, seed=4))), xy(found)
    )


# --- What the map is for ---


def test_planted_families_are_found(found):
    truth = planted()[1]
    assert adjusted_rand_score(truth, found.points["cluster"]) > 0.9
    distances = np.linalg.norm(xy(found)[:12, None] - xy(found)[None, 12:], axis=2)
    # The child nearest to each narrow latent on the map is one of its own.
    np.testing.assert_array_equal(truth[12:][distances.argmin(axis=1)], np.arange(12))


def test_points_say_which_latent_they_are(saes, found):
    points = found.points
    assert list(points) == ["sae", "sae_width", "latent_idx", "umap_x", "umap_y", "cluster"]
    assert points["sae"].tolist() == ["narrow"] * 12 + ["wide"] * 288
    assert points["sae_width"].tolist() == [12] * 12 + [288] * 288
    assert points["latent_idx"].tolist() == [*range(12), *range(288)]
    assert points["umap_x"].dtype == np.float32
    assert found.left_out.empty
    assert list(found.left_out) == ["sae", "sae_width", "latent_idx", "reason"]


def test_what_cannot_be_placed_is_left_out_and_told():
    decoder = directions(40, 8)
    decoder[3] = 0
    decoder[5, 2] = float("nan")
    decoder[6, 1] = float("inf")
    decoder[7] *= 1e-30  # tiny, but a direction
    hidden = torch.zeros(40, dtype=torch.bool)
    hidden[[3, 9]] = True
    saes = [LabelledSae("a", sae_of(directions(10, 8))), LabelledSae("b", sae_of(decoder))]
    rows = decoder_rows(saes, hidden={"b": hidden})
    told = rows.left_out
    assert told["latent_idx"].tolist() == [3, 5, 6, 9]
    assert told["reason"].tolist() == [ALL_ZERO, NOT_FINITE, NOT_FINITE, DEAD]
    assert told["sae"].tolist() == ["b"] * 4
    assert told["sae_width"].tolist() == [40] * 4
    assert len(rows) == 46
    frame = rows.frame()
    assert sorted({*range(40)} - set(frame["latent_idx"][frame["sae"] == "b"])) == [3, 5, 6, 9]
    torch.testing.assert_close(rows.directions.norm(dim=1), torch.ones(46))
    place = frame.index[(frame["sae"] == "b") & (frame["latent_idx"] == 7)][0]
    torch.testing.assert_close(rows.directions[place], decoder[7] * 1e30)


def test_rows_are_a_copy_in_float32(tiny_sae):
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name=HOOK, dtype="bfloat16")
    before = sae.W_dec.clone()
    rows = decoder_rows([LabelledSae("a", sae), LabelledSae("b", tiny_sae)])
    rows.directions.zero_()
    assert rows.directions.dtype == torch.float32
    torch.testing.assert_close(sae.W_dec, before)
    assert (tiny_sae.W_dec != 0).any()


# --- Once fitted, kept ---


def test_each_part_is_fitted_once(saes, found, tmp_path):
    store, fit = Store(tmp_path), Counted()

    def again(**changes):
        fit.asked.clear()
        return compute_map(saes, replace(CONFIG, **changes), store=store, fit=fit)

    alone = again(clusters=False)
    assert fit.asked == ["fit_layout"]
    with_clusters = again()
    assert fit.asked == ["fit_clusters"]
    np.testing.assert_array_equal(xy(with_clusters), xy(alone))
    pd.testing.assert_frame_equal(with_clusters.points, found.points)
    np.testing.assert_array_equal(with_clusters.clusters.medoids, found.clusters.medoids)
    finer = again(min_cluster_size=3)
    assert fit.asked == ["label_clusters"]
    assert finer.points["cluster"].max() >= found.points["cluster"].max()
    moved = again(min_dist=0.3)
    assert fit.asked == ["fit_layout"]
    np.testing.assert_array_equal(moved.points["cluster"], found.points["cluster"])
    for changes in ({}, {"clusters": False}, {"min_cluster_size": 3}, {"min_dist": 0.3}):
        again(**changes)
        assert fit.asked == []


def test_both_layouts_at_once_are_kept_apart(saes, found, tmp_path):
    store, fit = Store(tmp_path), Counted()
    compute_map(saes, CONFIG, store=store, fit=fit)
    assert fit.asked == ["fit_both"]
    compute_map(saes, replace(CONFIG, clusters=False), store=store, fit=fit)
    repeated = compute_map(saes, CONFIG, store=store, fit=fit)
    assert fit.asked == ["fit_both"]
    pd.testing.assert_frame_equal(repeated.points, found.points)
    np.testing.assert_array_equal(repeated.neighbors.ids, found.neighbors.ids)


class StopAt(Progress):
    """Cancelled when it hears of this unit."""

    def __init__(self, unit):
        super().__init__()
        self.unit = unit

    def update(self, done, total=None, *, unit="", message=""):
        if unit == self.unit:
            self.cancel()
        super().update(done, total, unit=unit, message=message)


@pytest.mark.parametrize("unit", ["latents", "epochs", "clusterings"])
def test_cancelled_at_any_stage_nothing_half_done_is_kept(saes, tmp_path, unit):
    store = Store(tmp_path)
    with pytest.raises(JobCancelled):
        compute_map(saes, CONFIG, store=store, progress=StopAt(unit))
    assert store.usage().recomputable.entries == (0 if unit == "latents" else 1)  # neighbours


# --- What is refused ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 1}, "n_neighbors is 1; use a whole number from 2 up"),
        ({"n_neighbors_cluster": 2.5}, "n_neighbors_cluster is 2.5"),
        ({"min_cluster_size": True}, "min_cluster_size is True"),
        ({"min_dist": -0.1}, "min_dist is -0.1; use a distance from 0 to 1"),
        ({"min_dist_cluster": float("nan")}, "min_dist_cluster is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "below"),
    ],
)
def test_settings_that_make_no_map(settings, message):
    with pytest.raises(ValueError, match=message):
        MapConfig(**settings)


def test_saes_that_do_not_go_together():
    eight, six = sae_of(directions(20, 8)), sae_of(directions(20, 6))
    elsewhere = sae_of(directions(20, 8), hook_name="blocks.2.hook_resid_pre")
    with pytest.raises(ValueError, match="no SAEs"):
        decoder_rows([])
    with pytest.raises(ValueError, match="called 'a'"):
        decoder_rows([LabelledSae("a", eight), LabelledSae("a", eight)])
    with pytest.raises(ValueError, match="'b' 6; choose SAEs of one model and site"):
        decoder_rows([LabelledSae("a", eight), LabelledSae("b", six)])
    with pytest.raises(ValueError, match=r"blocks\.2\.hook_resid_pre; directions at different"):
        decoder_rows([LabelledSae("a", eight), LabelledSae("b", elsewhere)])


def test_hidden_that_does_not_fit():
    saes = [LabelledSae("a", sae_of(directions(20, 8)))]
    with pytest.raises(ValueError, match="hidden names 'b'"):
        decoder_rows(saes, hidden={"b": np.zeros(20, dtype=bool)})
    with pytest.raises(ValueError, match=r"bool of shape \[19\]; give one bool for each of its 20"):
        decoder_rows(saes, hidden={"a": np.zeros(19, dtype=bool)})
    with pytest.raises(ValueError, match="float64"):
        decoder_rows(saes, hidden={"a": np.zeros(20)})
    with pytest.raises(ValueError, match="Rows are given already"):
        compute_map(decoder_rows(saes), hidden={"a": np.zeros(20, dtype=bool)})


def test_too_few_latents():
    saes = [LabelledSae("a", sae_of(directions(20, 8)))]
    with pytest.raises(ValueError, match="There are 15 latents to place and 15 neighbours"):
        compute_map(saes, hidden={"a": np.arange(20) < 5})


def test_warming_up_needs_nothing():
    warm_up()


def test_the_worker_loads_no_torch_for_layouts():
    code = "import sys, core.splitting.layout; assert not {'torch', 'sae_lens'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
