"""Running-sum scores of token sets and their p-values, each told a second way."""

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.multitest import fdrcorrection

from core.enrichment.null import log_p_value, permutation_p_values
from core.enrichment.run import Enrichment, enrich
from core.enrichment.score import enrichment_scores, one_latent, running_sum
from core.enrichment.token_sets import TokenSets
from core.jobs.progress import JobCancelled, Progress
from core.store.dataclass_codec import dataclass_codec


def walk(logits: np.ndarray, members: np.ndarray, weight: float = 0.0) -> float:
    """The score by walking down the list, as it is defined."""
    inside = set(members.tolist())
    sizes = np.abs(logits - logits.mean()) ** weight
    total, n_out = sizes[members].sum(), len(logits) - len(members)
    now = best = 0.0
    for token in np.argsort(-logits):
        now += sizes[token] / total if token in inside else -1 / n_out
        if abs(now) > abs(best):
            best = now
    return float(best)


def logits_and_members(n: int = 9, vocab: int = 120) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, vocab)) ** 3
    members = [np.sort(rng.choice(vocab, k, replace=False)) for k in (1, 2, 7, 60, 119)]
    logits[:4, members[2]] += 2.0
    logits[4:, members[3]] -= 1.0
    return logits.astype(np.float32), members


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.5])
def test_scores_are_those_of_a_walk_down_the_list(weight: float) -> None:
    logits, members = logits_and_members()
    found = enrichment_scores(logits, members, weight=weight)
    for row in range(len(logits)):
        for column, ids in enumerate(members):
            exact = walk(logits[row].astype(np.float64), ids, weight)
            assert found[row, column] == pytest.approx(exact, abs=1e-6)


def test_unweighted_scores_are_the_ks_statistic_with_a_sign() -> None:
    logits, members = logits_and_members()
    found = enrichment_scores(logits, members)
    for row in range(len(logits)):
        for column, ids in enumerate(members):
            rest = np.setdiff1d(np.arange(logits.shape[1]), ids)
            exact = stats.ks_2samp(logits[row, ids], logits[row, rest])
            assert abs(found[row, column]) == pytest.approx(exact.statistic, abs=1e-9)
            # scipy's sign tells which distribution function is above: low values are more likely.
            assert np.sign(found[row, column]) == -exact.statistic_sign


def test_rows_without_an_order_have_no_score() -> None:
    logits, members = logits_and_members()
    logits[1], logits[3, 5], logits[4, 0] = 2.5, np.nan, np.inf
    found = enrichment_scores(logits, members)
    assert np.isnan(found[[1, 3, 4]]).all()
    others = [0, 2, 5, 6, 7, 8]
    np.testing.assert_array_equal(found[others], enrichment_scores(logits[others], members))
    for wrong in (np.array([], dtype=int), np.arange(120)):
        with pytest.raises(ValueError, match="has no score"):
            enrichment_scores(logits, [wrong])


@pytest.mark.parametrize(("size", "vocab"), [(1, 500), (3, 500), (40, 600), (200, 500)])
def test_p_values_against_the_exact_distribution(size: int, vocab: int) -> None:
    rng = np.random.default_rng(size)
    for shift in (0.0, 0.3, 0.6, 1.0):
        place = rng.normal(size=vocab)
        place[:size] += shift
        exact = stats.ks_2samp(place[:size], place[size:], method="exact")
        found = np.exp(log_p_value(np.array([exact.statistic]), size, vocab))[0]
        if exact.pvalue > 1e-4:
            assert found == pytest.approx(exact.pvalue, rel=0.12)
        elif exact.pvalue > 1e-12:
            assert 0.5 < found / exact.pvalue < 2


def test_p_values_against_random_permutations() -> None:
    rng = np.random.default_rng(1)
    vocab, size, n = 300, 25, 8_000
    null = np.abs(
        enrichment_scores(
            rng.permuted(np.tile(np.arange(vocab, dtype=np.float32), (n, 1)), axis=1),
            [np.arange(size)],
        )[:, 0]
    )
    for score in (0.1, 0.2, 0.25, 0.3, 0.35):
        share = (null >= score).mean()
        spread = np.sqrt(share * (1 - share) / n)
        found = np.exp(log_p_value(np.array([score]), size, vocab))[0]
        assert abs(found - share) < 4 * spread + 0.06 * share


def test_p_values_fall_to_a_floor_and_are_one_at_zero() -> None:
    scores = np.linspace(0, 1, 300)
    for size in (1, 8, 70, 450, 9000):
        found = log_p_value(scores, size, 50_000)
        assert (np.diff(found) <= 1e-12).all()
        assert found[0] == 0
        assert np.isfinite(found).all()
    assert log_p_value(np.array([1.0]), 1, 500)[0] >= np.log(2 / 500) - 1e-9
    assert np.isnan(log_p_value(np.array([np.nan]), 5, 500))[0]
    with pytest.raises(ValueError, match="no null"):
        log_p_value(scores, 500, 500)


def test_drawn_p_values_agree_with_the_formula_and_with_permuted_labels() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=200).astype(np.float32)
    members = [np.arange(10), np.argsort(-logits)[:10], rng.choice(200, 30, replace=False)]
    sizes = np.array([10, 10, 30])
    scores = enrichment_scores(logits[None], members)[0]
    found = permutation_p_values(logits, sizes, scores, weight=0.0, n_permutations=4000)
    assert found[1] == pytest.approx(1 / 2000, rel=0.2)  # as far out as can be, on its side
    # One side holds half of the null, so the p-value on that side is about the two-sided one.
    for place in (0, 2):
        exact = np.exp(log_p_value(scores[place : place + 1], int(sizes[place]), 200))[0]
        assert found[place] == pytest.approx(exact, abs=0.06)
    weighted = enrichment_scores(logits[None], members, weight=1.0)[0]
    drawn = permutation_p_values(logits, sizes, weighted, weight=1.0, n_permutations=2000)
    null = np.array([walk(logits, rng.choice(200, 30, replace=False), 1.0) for _ in range(500)])
    same_side = null[np.sign(null) == np.sign(weighted[2])]
    share = (np.abs(same_side) >= abs(weighted[2])).mean()
    assert drawn[2] == pytest.approx(share, abs=0.06)


def sets_of(vocab: int = 90) -> TokenSets:
    rng = np.random.default_rng(5)
    named = [(f"s{k}", "g", rng.choice(vocab, k, replace=False)) for k in (1, 12, 40)]
    return TokenSets.from_ids(named, np.arange(vocab))


def enriched(
    directions: torch.Tensor, W_U: torch.Tensor, sets: TokenSets, *, n_controls: int = 50, **more
) -> Enrichment:
    """Rows of `directions @ W_U` against the sets, and those of random directions."""
    generator = torch.Generator().manual_seed(0)
    logits = directions @ W_U
    random = torch.randn(n_controls, len(W_U), generator=generator) @ W_U
    return enrich(
        lambda first, last: logits[first:last].numpy(),
        len(logits),
        sets,
        controls_of=lambda first, last: random[first:last].numpy(),
        n_controls=n_controls,
        **more,
    )


def test_all_latents_and_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    directions, W_U = (
        torch.randn(30, 8, generator=generator),
        torch.randn(8, 90, generator=generator),
    )
    sets = sets_of()
    W_U[:, sets.sets[1].ids] += 0.7 * directions[0][:, None]
    directions[7], directions[9] = 0.0, torch.nan
    found = enriched(directions, W_U, sets, n_controls=50)
    assert found.scores.shape == found.q.shape == (30, 3)
    assert found.controls.shape == (50, 3)
    logits = (directions @ W_U).numpy()
    for row in (0, 13):
        np.testing.assert_allclose(found.scores[row], one_latent(logits[row], sets), atol=1e-6)
    assert np.isnan(found.scores[[7, 9]]).all()
    assert np.isnan(found.q[[7, 9]]).all()
    tested = np.isfinite(found.scores)
    _, exact = fdrcorrection(10 ** found.log10_p[tested].astype(np.float64))
    np.testing.assert_allclose(found.q[tested], exact, rtol=1e-4)
    beyond = found.beyond_controls()
    for row, column in ((0, 1), (3, 0), (20, 2)):
        count = (np.abs(found.controls[:, column]) >= abs(found.scores[row, column])).sum()
        assert beyond[row, column] == pytest.approx((1 + count) / 51)
    assert found.scores[0, 1] > 0.5
    assert found.log10_p[0, 1] < -4
    codec = dataclass_codec(Enrichment)
    again = codec.decode(codec.encode(found))
    np.testing.assert_array_equal(again.scores, found.scores)
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        enriched(directions, W_U, sets, progress=progress)


def test_random_directions_are_called_unusual_at_the_rate_they_should_be() -> None:
    generator = torch.Generator().manual_seed(3)
    # Independent tokens: here the permutation p-value is right, uniform up to its lattice.
    W_U = torch.randn(400, 400, generator=generator)
    directions = torch.randn(1500, 400, generator=generator)
    rng = np.random.default_rng(0)
    sets = TokenSets.from_ids([("s", "g", rng.choice(400, 60, replace=False))], np.arange(400))
    found = enriched(directions, W_U, sets, n_controls=10)
    p_values = 10 ** found.log10_p[:, 0]
    for level in (0.05, 0.2, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.07)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_curve_ends_in_the_score(weight: float) -> None:
    rng = np.random.default_rng(7)
    logits, sets = rng.normal(size=90).astype(np.float32), sets_of()
    for number, it in enumerate(sets):
        curve = running_sum(logits, sets, number, weight=weight)
        assert curve.score == pytest.approx(one_latent(logits, sets, weight=weight)[number])
        assert curve.y[-1] == pytest.approx(0, abs=1e-9)
        assert sorted(curve.ids.tolist()) == it.ids.tolist()
        assert (np.diff(logits[curve.ids]) <= 0).all()
        short = running_sum(logits, sets, number, weight=weight, most_points=5)
        assert short.score == curve.score
        assert curve.score in short.y
    with pytest.raises(ValueError, match="same logit"):
        running_sum(np.ones(90, dtype=np.float32), sets, 0)


def test_sets_without_tokens_or_of_all_are_left_out() -> None:
    named = [("none", "g", np.array([], dtype=int)), ("all", "g", np.arange(5)), ("a", "g", [1, 9])]
    sets = TokenSets.from_ids(named, np.arange(5))
    assert [it.name for it in sets] == ["a"]
    assert sets.left_out == ("none", "all")
    assert sets.sets[0].ids.tolist() == [1]
    with pytest.raises(ValueError, match="called 'a'"):
        TokenSets.from_ids([("a", "g", [1]), ("a", "g", [2])], np.arange(5))
    with pytest.raises(ValueError, match="no tokens"):
        TokenSets.from_ids([], np.array([], dtype=int))
    empty = TokenSets.from_ids([], np.arange(5))
    with pytest.raises(ValueError, match="no set"):
        enriched(torch.ones(2, 3), torch.ones(3, 5), empty)
