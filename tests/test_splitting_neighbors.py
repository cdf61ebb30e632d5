"""Neighbours are exact, whatever the stripes, the copies and the ties; and found once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from core.jobs.progress import JobCancelled, Progress
from core.splitting import neighbors as neighbors_module
from core.splitting.neighbors import Neighbors, exact_neighbors, neighbors_of
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from tests.splitting_sets import directions, sae_of


def by_sklearn(rows: torch.Tensor, k: int) -> Neighbors:
    distances, ids = (
        NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
        .fit(rows.double().numpy())
        .kneighbors(rows.double().numpy())
    )
    return Neighbors(ids, distances)


@pytest.mark.parametrize("stripe_rows", [None, 1, 7, 500])
def test_neighbors_are_those_of_sklearn(stripe_rows):
    rows = directions(301, 24)
    found = exact_neighbors(rows, 15, stripe_rows=stripe_rows)
    plain = by_sklearn(rows, 15)
    np.testing.assert_array_equal(found.ids, plain.ids)
    np.testing.assert_allclose(found.distances, plain.distances, atol=2e-6)
    assert found.ids.dtype == np.int32
    assert found.distances.dtype == np.float32


@settings(max_examples=40)
@given(
    n=st.integers(2, 40),
    copies=st.integers(1, 4),
    k=st.integers(1, 12),
    stripe_rows=st.integers(1, 50),
    seed=st.integers(0, 100),
)
def test_copies_and_ties(n, copies, k, stripe_rows, seed):
    # Rows of -1, 0, 1 in three dimensions tie all the time, and each row comes several times.
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-1, 2, (n, 3), generator=generator).float()
    rows[rows.norm(dim=1) == 0, 0] = 1
    rows = (rows / rows.norm(dim=1, keepdim=True)).repeat(copies, 1)
    k = min(k, len(rows))
    found = exact_neighbors(rows, k, stripe_rows=stripe_rows)
    np.testing.assert_array_equal(found.ids[:, 0], np.arange(len(rows)))
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    assert (found.distances >= 0).all()
    assert all(len(set(row)) == k for row in found.ids.tolist())
    # Which of several equally near rows are taken is open; how near they are is not.
    np.testing.assert_allclose(found.distances, by_sklearn(rows, k).distances, atol=1e-6)
    between = 1 - (rows[:, None] * rows[found.ids.astype(np.int64)]).sum(-1).numpy()
    np.testing.assert_allclose(found.distances, between, atol=1e-6)


def test_opposite_rows_are_two_apart():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(exact_neighbors(rows, 2).distances, [[0, 2], [0, 2]])


@pytest.mark.parametrize("k", [0, 6])
def test_too_few_rows(k):
    with pytest.raises(ValueError, match=f"k is {k} for 5 rows; ask for 1 to 5"):
        exact_neighbors(directions(5, 4), k)


def test_progress_counts_rows_and_cancels():
    progress = Progress()
    exact_neighbors(directions(50, 4), 3, stripe_rows=20, progress=progress)
    assert (progress.view().done, progress.view().total, progress.view().unit) == (
        50,
        50,
        "latents",
    )
    progress.cancel()
    with pytest.raises(JobCancelled):
        exact_neighbors(directions(50, 4), 3, progress=progress)


def test_the_store_serves_fewer_neighbours_of_the_same_rows(tmp_path, monkeypatch):
    searches = []
    search = exact_neighbors

    def counted(rows, k, **options):
        searches.append(k)
        return search(rows, k, **options)

    monkeypatch.setattr(neighbors_module, "exact_neighbors", counted)
    store = Store(tmp_path)
    rows = decoder_rows([LabelledSae("a", sae_of(directions(60, 8)))])
    others = decoder_rows([LabelledSae("a", sae_of(directions(60, 8, seed=1)))])
    first = neighbors_of(rows, 15, store=store)
    again = neighbors_of(rows, 9, store=store)
    assert searches == [16]
    np.testing.assert_array_equal(again.ids, first.ids[:, :9])
    np.testing.assert_array_equal(first.ids, search(rows.directions, 15).ids)
    assert neighbors_of(rows, 20, store=store).ids.shape == (60, 20)
    assert neighbors_of(rows, 60, store=store).ids.shape == (60, 60)
    neighbors_of(others, 9, store=store)
    assert searches == [16, 32, 60, 16]
