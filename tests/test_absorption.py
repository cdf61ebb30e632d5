"""Absorption: planted truths, SAEBench's formulas written a second time, nulls, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.absorption import (
    AbsorptionConfig,
    Concept,
    Sites,
    absorption_of,
    exceptions_of,
    latent_concept,
    token_concepts,
)
from core.absorption.measure import Thresholds, absorbed
from core.absorption.probe import auroc, best_cut, f1_of, fit_probes, held_out
from core.absorption.sparse_probe import jumps
from core.absorption.text_lists import check_lists, list_concept, text_list_sites
from core.enrichment.token_sets import NamedTokens
from core.enrichment.user_sets import WordList
from core.lease import PlainLease
from core.models import Model
from tests.builders import make_sae

NUMBERS = range(24)
D, TOKENS, PER_TOKEN = 64, 400, 6
CONCEPT = np.arange(120)
"""Tokens of the concept."""
ABSORBED = np.arange(30)
"""Of these, the tokens whose own latent carries the concept."""


def planted(absorbing: bool, *, seed: int = 0, length: float = 1.0) -> Sites:
    """Tokens have directions of their own, those of the concept share one more.

    Latent 0 is the concept, latent 1 + t token t. With `absorbing`, latent 0 stays silent on the
    tokens of `ABSORBED`, and their own latents write the concept as well.
    """
    generator = np.random.default_rng(seed)
    basis = generator.standard_normal((TOKENS + 1, D))
    concept = np.linalg.qr(basis[:1].T)[0][:, 0]
    own = basis[1:] - np.outer(basis[1:] @ concept, concept)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    token = np.repeat(np.arange(TOKENS), PER_TOKEN)
    strength = generator.uniform(2, 3, len(token))
    is_true = token < len(CONCEPT)
    x = strength[:, None] * own[token] * 0.5 + 2.0 * is_true[:, None] * concept
    rows = np.concatenate([concept[None], own])
    acts = np.zeros((len(token), TOKENS + 1))
    acts[np.arange(len(token)), 1 + token] = 0.5 * strength
    acts[is_true, 0] = 2.0
    if absorbing:
        rows[1 + ABSORBED] = own[ABSORBED] + 1.6 * concept
        acts[np.isin(token, ABSORBED), 0] = 0
    x += 0.02 * generator.standard_normal(x.shape)
    # Longer rows that fire less write the same.
    return Sites(
        x.astype(np.float32),
        csr_array((acts / length).astype(np.float32)),
        token,
        (rows * length).astype(np.float32),
        np.full(D, 0.3, np.float32),
    )


def concept_of(sites: Sites) -> Concept:
    return Concept("planted", "test", np.isin(sites.token, CONCEPT))


@pytest.mark.parametrize("length", [1.0, 4.0])
def test_planted_absorption_is_found_with_its_absorbers(length: float) -> None:
    sites = planted(absorbing=True, length=length)
    (found,) = absorption_of(sites, [concept_of(sites)])
    assert found.represented
    assert found.f1 > 0.9
    assert found.mains == (0,), "one latent is the concept's own"
    tokens = found.tokens.set_index("token")
    said = set(tokens.index[tokens["full"] > 0.5])
    truly = set(ABSORBED) & set(tokens.index)
    assert len(said & truly) >= 0.95 * len(ABSORBED)
    assert len(said - truly) <= 0.02 * (len(CONCEPT) - len(ABSORBED))
    assert (
        tokens.loc[sorted(said & truly), "absorber"] == 1 + np.array(sorted(said & truly))
    ).all()
    assert set(found.absorbers["latent"]) <= set(1 + ABSORBED)
    assert found.full.low < len(ABSORBED) / len(CONCEPT) < found.full.high
    assert found.fraction.value == pytest.approx(0.25, abs=0.03)
    assert found.recall == pytest.approx(0.75, abs=0.03)
    assert found.hedging == 0


def test_none_is_found_where_none_is_and_nulls_are_lower_than_what_is_planted() -> None:
    sites = planted(absorbing=False)
    (found,) = absorption_of(sites, [concept_of(sites)])
    assert found.full.value <= 0.02
    assert found.fraction.value <= 0.02
    assert found.recall > 0.99
    there = planted(absorbing=True)
    (planted_one,) = absorption_of(there, [concept_of(there)])
    assert planted_one.random_direction.full < 0.5 * planted_one.full.value + 0.1
    assert planted_one.shuffled_f1 < 0.6 < planted_one.f1
    assert planted_one.shuffled.full > 0.5, "each token carries a set without a meaning alone"
    assert planted_one.random_sae.n == planted_one.n_hits > 0


def test_a_concept_that_the_model_does_not_have_is_said_to_be_missing() -> None:
    sites = planted(absorbing=False)
    chosen = np.random.default_rng(4).permutation(TOKENS)[:60]
    label = np.isin(sites.token, chosen)
    (found,) = absorption_of(sites, [Concept("nothing", "test", label)])
    assert not found.represented
    assert found.f1 < 0.6
    assert found.auroc < 0.75


def by_hand(
    act: np.ndarray, rows: np.ndarray, x: np.ndarray, p: np.ndarray, mains: list[int]
) -> tuple[bool, float]:
    """SAEBench's two measures of one word, as its description has them."""
    cosine = rows @ p / np.linalg.norm(rows, axis=1)
    projection = float(x @ p)
    others = [i for i in range(len(act)) if i not in mains]
    best = max(others, key=lambda i: act[i] * cosine[i])
    full = (
        all(act[i] < 1e-8 for i in mains)
        and cosine[best] >= 0.025
        and projection >= 0
        and projection > 0
        and act[best] * cosine[best] / projection >= 0.4
    )
    usable = [act[i] * cosine[i] for i in others if cosine[i] >= 0.1 and act[i] > 0]
    absorbing = sum(sorted(usable, reverse=True)[:3])
    own = sum(act[i] * cosine[i] for i in mains)
    if own >= projection or absorbing / projection < 0.4 or projection <= 0:
        return bool(full), 0.0
    if own <= 0:
        return bool(full), 1.0
    least = min(absorbing, projection - own)
    return bool(full), least / (least + own)


def test_measures_are_those_of_saebench() -> None:
    generator = np.random.default_rng(0)
    n, d_sae, d = 400, 30, 8
    acts = np.maximum(generator.standard_normal((n, d_sae)) - 0.7, 0)
    rows = generator.standard_normal((d_sae, d))
    p = generator.standard_normal(d)
    p /= np.linalg.norm(p)
    bias = generator.standard_normal(d)
    x = acts @ rows + 0.3 * generator.standard_normal((n, d))
    sites = Sites(x, csr_array(acts), np.arange(n), rows, bias)
    for mains in ([3], [3, 7]):
        found = absorbed(sites, p, np.array(mains), raw=True)
        expected = [by_hand(acts[i], rows, x[i] + bias, p, mains) for i in range(n)]
        np.testing.assert_array_equal(found.full, [it[0] for it in expected])
        np.testing.assert_allclose(found.fraction, [it[1] for it in expected], atol=1e-9)
        assert 0 < found.full.sum() < n
        assert ((found.fraction > 0) & (found.fraction < 1)).any()
        # Ours: lengths of rows count, the bias does not. With rows of length 1 and no bias, equal.
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        same = Sites(x, csr_array(acts), np.arange(n), unit, np.zeros(d))
        one, two = (absorbed(same, p, np.array(mains), raw=it) for it in (True, False))
        np.testing.assert_array_equal(one.full, two.full)
        np.testing.assert_allclose(one.fraction, two.fraction)


def test_what_latents_add_is_the_projection_of_what_they_write() -> None:
    sites = planted(absorbing=True, length=3.0)
    direction = np.random.default_rng(1).standard_normal(D)
    direction /= np.linalg.norm(direction)
    found = absorbed(sites, direction, np.array([0]))
    dense = sites.acts.toarray()
    added = dense * (sites.rows @ direction)
    added[:, 0] = -np.inf
    projection = sites.x @ direction
    good = (added.max(1) > 0) & (projection > 0)
    np.testing.assert_array_equal(found.absorber[good], added.argmax(1)[good])
    np.testing.assert_allclose(found.share[good], (added.max(1) / projection)[good], rtol=1e-4)


def test_a_split_two_steps_on_is_not_missed() -> None:
    assert jumps([0.5, 0.51, 0.7, 0.71], 0.03) == 3
    assert jumps([0.5, 0.6, 0.61, 0.62], 0.03) == 2
    assert jumps([0.9, 0.9], 0.03) == 1


def test_a_concept_that_is_split_has_both_of_its_latents() -> None:
    sites = planted(absorbing=False)
    acts = sites.acts.toarray()
    second = np.isin(sites.token, CONCEPT[60:])
    rows = np.concatenate([sites.rows, sites.rows[:1]])
    acts = np.concatenate([acts, np.where(second, acts[:, 0], 0)[:, None]], 1)
    acts[second, 0] = 0
    (found,) = absorption_of(replace(sites, acts=csr_array(acts), rows=rows), [concept_of(sites)])
    assert set(found.mains) == {0, TOKENS + 1}
    assert found.full.value <= 0.02


def test_exceptions_of_a_latent_name_the_tokens_and_who_fires_instead() -> None:
    sites = planted(absorbing=True)
    wrong = Concept("else", "test", np.isin(sites.token, np.arange(200, 300)))
    found = exceptions_of(sites, 0, [wrong, concept_of(sites)])
    assert (found.concept, found.runner_up) == ("planted", "else")
    assert found.fit > 0.8 > found.chance_fit
    assert found.n_hits - found.fires == pytest.approx(len(ABSORBED) * PER_TOKEN, abs=6)
    exceptions = found.tokens[found.tokens["fires"] == 0]
    assert set(exceptions["token"]) == set(ABSORBED)
    assert (exceptions["absorber"] == 1 + exceptions["token"]).all()
    silent = sites.acts.toarray()
    silent[:, 5] = 0
    with pytest.raises(ValueError, match="does not fire"):
        exceptions_of(replace(sites, acts=csr_array(silent)), 5, [wrong])
    with pytest.raises(ValueError, match="choose 0 to"):
        exceptions_of(sites, 10_000, [wrong])


def test_a_latent_of_a_narrower_sae_is_a_concept() -> None:
    sites = planted(absorbing=True)
    parent = csr_array(np.isin(sites.token, CONCEPT)[:, None].astype(np.float32))
    concept = latent_concept(replace(sites, others=parent), 0)
    (found,) = absorption_of(sites, [concept])
    assert found.full.low < 0.25 < found.full.high
    with pytest.raises(ValueError, match="no second SAE"):
        latent_concept(sites, 0)


def test_probes_find_a_direction_and_are_judged_on_other_tokens() -> None:
    sites = planted(absorbing=False)
    label = np.isin(sites.token, CONCEPT)
    train = held_out(sites.token)
    assert not set(sites.token[train]) & set(sites.token[~train])
    (probe,) = fit_probes(sites.x, label[:, None], train)
    assert abs(probe.direction @ sites.rows[0]) > 0.8
    score = sites.x @ probe.direction
    assert probe.f1 == pytest.approx(f1_of(score[~train] > probe.cut, label[~train]))
    truth = np.array([True, True, False, False])
    assert auroc(np.array([3.0, 2.0, 2.0, 1.0]), truth) == 0.875
    assert 2.0 < best_cut(np.array([3.0, 2.5, 2.0, 1.0]), truth) < 2.5


def test_concepts_that_nothing_can_be_said_of_are_refused() -> None:
    sites = planted(absorbing=False)
    few = NamedTokens("few", "test", np.arange(5))
    most = NamedTokens("most", "test", np.arange(390))
    good = NamedTokens("good", "test", CONCEPT)
    found, left_out = token_concepts([few, most, good], sites)
    assert [it.name for it in found] == ["good"]
    assert "true of 5 different tokens" in left_out["few"]
    assert "false of only 10" in left_out["most"]
    everything = Concept("all", "test", np.ones(len(sites.token), bool))
    for concepts, words in (
        ([everything], "not true of nearly everything"),
        ([], "No concept is left"),
        ([Concept("short", "test", np.ones(3, bool))], "give a label for each"),
    ):
        with pytest.raises(ValueError, match=words):
            absorption_of(sites, concepts)
    with pytest.raises(ValueError, match="use 1 or more"):
        AbsorptionConfig(most_latents=0)
    with pytest.raises(ValueError, match="more than 0"):
        Thresholds(share=0)
    with pytest.raises(ValueError, match="do not fit"):
        replace(sites, token=sites.token[:3])


def test_two_lists_of_texts_are_a_concept_judged_on_other_texts(tiny_model: Model) -> None:
    sae = make_sae("jumprelu", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre", seed=2)
    first = WordList("rivers", tuple(f"The river {word} runs." for word in NUMBERS))
    second = WordList("drinks", tuple(f"Mary gave {word} a drink." for word in NUMBERS))
    texts = [*first.words, *second.words]
    sites = text_list_sites(PlainLease(tiny_model, [sae]), texts, per_text=3)
    assert sites.unit == "texts"
    assert np.bincount(sites.token).max() == 3
    assert len(np.unique(sites.token)) == len(texts)
    # Each position is one of its own text: read again, a text alone.
    whole = text_list_sites(PlainLease(tiny_model, [sae]), texts, per_text=99)
    alone = text_list_sites(PlainLease(tiny_model, [sae]), [texts[25]], per_text=99)
    np.testing.assert_allclose(whole.x[whole.token == 25], alone.x, atol=1e-5)
    concept = list_concept(sites, first, second)
    assert concept.label.sum() == (sites.token < len(first.words)).sum()
    (found,) = absorption_of(sites, [concept])
    assert found.name == "rivers, not drinks"
    assert set(found.tokens["token"]) <= set(range(len(first.words)))
    few = text_list_sites(PlainLease(tiny_model, [sae]), texts[10:], per_text=3)
    short = WordList("rivers", first.words[10:])
    with pytest.raises(ValueError, match=r"different texts here.*add texts"):
        absorption_of(few, [list_concept(few, short, second)])


def test_lists_of_the_wrong_kind_are_refused() -> None:
    one, two = WordList("a", ("x", "y")), WordList("b", ("y", "z"))
    assert check_lists([one, WordList("b", ("z",))])[0] is one
    for lists, words in (
        ([one], "holds 1 list; give two lists"),
        ([one, two, one], "holds 3 lists; give two lists"),
        ([one, two], "'y' is in both lists"),
    ):
        with pytest.raises(ValueError, match=words):
            check_lists(lists)
