"""Short cuts around sorting: what they keep equals what sorting everything keeps."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.activations.block import order_by
from core.activations.cofiring import strongest_partners
from core.activations.ranked import (
    LAST,
    Entries,
    RankedLists,
    among_first,
    random_rank,
    strongest_first,
)


def entries_of(group: np.ndarray, value: np.ndarray, place: np.ndarray) -> Entries:
    """Entries whose window is their place, so that one can see whose it is."""
    return Entries(group, value, place, lambda at: (place[at] % 2048)[:, None].astype(np.float16))


@pytest.mark.parametrize("n_groups", [1, 3, 300])
@pytest.mark.parametrize("by", ["strength", "chance"])
def test_lists_hold_the_first_of_each_group_however_offered(n_groups: int, by: str) -> None:
    generator = np.random.default_rng(n_groups)
    n, k = 3000, 4
    group = generator.integers(0, n_groups, n)
    # Few values and neighbouring places: ranks that agree in all but their last bits.
    value = generator.integers(1, 4, n).astype(np.float32)
    place = generator.permutation(n).astype(np.int32)

    def rank(group: np.ndarray, value: np.ndarray, place: np.ndarray) -> np.ndarray:
        return strongest_first(group, value, place) if by == "strength" else _near(place)

    lists = RankedLists.empty(n_groups, k, 1)
    for part in np.array_split(generator.permutation(n), 7):
        lists.offer(entries_of(group[part], value[part], place[part]), rank)
    for number in range(n_groups):
        mine = np.flatnonzero(group == number)
        ranks = [int(it) for it in rank(group[mine], value[mine], place[mine])]
        best = [int(mine[i]) for i in sorted(range(len(mine)), key=ranks.__getitem__)[:k]]
        assert lists.place[number, : len(best)].tolist() == place[best].tolist()
        assert lists.value[number, : len(best)].tolist() == value[best].tolist()
        assert lists.window[number, : len(best), 0].tolist() == (place[best] % 2048).tolist()
        assert (lists.place[number, len(best) :] == -1).all()
        worst = sorted(ranks)[k - 1] if len(best) == k else int(LAST)
        assert int(lists.worst[number]) == worst


def _near(place: np.ndarray) -> np.ndarray:
    return (np.uint64(7) << np.uint64(60)) + place.astype(np.uint64)


@pytest.mark.parametrize("even", [True, False])
def test_the_first_are_among_those_that_stay(even: bool) -> None:
    generator = np.random.default_rng(0)
    group = generator.choice(60, 20_000, p=generator.dirichlet(np.full(60, 0.3)))
    place = np.arange(len(group))
    ranks = random_rank(group, place, 5)
    if not even:  # all in the upper half: nothing lies below the bound
        ranks = (ranks >> np.uint64(1)) | (np.uint64(1) << np.uint64(63))
    kept = among_first(group, ranks, 5, 60)
    for number in range(60):
        mine = np.flatnonzero(group == number)
        first = mine[np.argsort(ranks[mine])[:5]]
        assert np.isin(first, kept).all()
    assert len(kept) < len(group) / 4 or not even


def test_order_in_linear_time_is_a_stable_argsort() -> None:
    number = np.random.default_rng(0).integers(0, 50, 2000).astype(np.int32)
    assert order_by(number, 50).tolist() == np.argsort(number, kind="stable").tolist()
    assert order_by(number[:0], 50).tolist() == []


@pytest.mark.parametrize("min_together", [1, 2, 5])
def test_partners_equal_plain_counting_with_many_ties(min_together: int) -> None:
    generator = np.random.default_rng(3)
    # 600 latents go over the edge of a chunk; equal latents have equal partners.
    fires = generator.random((150, 600)) < generator.uniform(0, 0.3, 600)
    fires[:, 300:350] = fires[:, :50]
    fires[:, 599] = False
    counts = fires.astype(np.int64).T @ fires
    partners, together = strongest_partners(
        csr_array(fires.astype(np.float32)), 6, min_together=min_together
    )
    for latent in range(600):
        either = counts[latent, latent] + counts.diagonal() - counts[latent]
        scores = [
            (-counts[latent, other] / either[other], other)
            for other in range(600)
            if other != latent and counts[latent, other] >= min_together
        ]
        best = [other for _, other in sorted(scores)[:6]]
        assert partners[latent, : len(best)].tolist() == best
        assert together[latent, : len(best)].tolist() == counts[latent, best].tolist()
        assert (partners[latent, len(best) :] == -1).all()
