"""Whether a latent stands out from random directions: measures, calibration, and the verdict."""

import numpy as np
import pandas as pd
import pytest
from sae_lens import SAE

from core.models import Model
from core.patch_scoping.null_distribution import (
    clarity_measures,
    compare_with_null,
    mean_overlap,
    verdict_of,
)
from core.patch_scoping.prompt import scope_prompt
from core.patch_scoping.reading import unigram_f1
from core.patch_scoping.sampling import Sampling
from core.patch_scoping.sweep import SweepConfig, random_sweep, sweep

PROMPT = 'What is "<unk>"? The "<unk>" is "'
WORDS = [f"w{i}" for i in range(400)]


def swept(rng: np.random.Generator, n: int, *, clear: float = 0.0) -> pd.DataFrame:
    """A sweep's table of `n` directions: the clearer, the surer and the more alike its texts."""
    rows = []
    for latent in range(n):
        own = " ".join(rng.choice(WORDS, 8))
        for layer in (1, 2):
            for scale in (1.0, 2.0, 4.0):
                other = " ".join(rng.choice(WORDS, 8))
                rows.append(
                    {
                        "latent": latent,
                        "layer": layer,
                        "scale": scale,
                        "sample": 0,
                        "answer": own if rng.random() < 0.3 + clear / 10 else other,
                        "mean_log_prob": -1 + clear / 10 + rng.normal() / 10,
                        "n_tokens": 8,
                        "entropy": 3 - clear / 3 + rng.normal() / 3,
                        "self_similarity": rng.normal(),
                        "resting": 0.0,
                    }
                )
    return pd.DataFrame(rows)


def test_measures_are_plain_means(tiny_model: Model, tiny_sae: SAE) -> None:
    sampling = Sampling(temperature=1.0, n_samples=2)
    config = SweepConfig(layers=(0, 1), scales=(1.0, 30.0), max_new_tokens=4, sampling=sampling)
    prompts = {"a": scope_prompt(tiny_model, PROMPT)}
    found = sweep(tiny_model, tiny_sae, [3, 9], prompts, config)
    measures = clarity_measures(found.table)
    assert list(measures.index) == [3, 9]
    for latent in (3, 9):
        rows = [
            it
            for it in found.table.to_dict("records")
            if it["latent"] == latent and it["sample"] == 0
        ]
        assert len(rows) == 4
        texts = {(it["layer"], it["scale"]): it["answer"] for it in rows}
        overlaps = [unigram_f1(texts[layer, 1.0], texts[layer, 30.0]) for layer in (0, 1)]
        expected = {
            "entropy": sum(it["entropy"] for it in rows) / 4,
            "log_prob": sum(it["mean_log_prob"] * it["n_tokens"] for it in rows) / 4,
            "agreement": sum(overlaps) / 2,
            "rise": max(it["self_similarity"] - it["resting"] for it in rows),
        }
        assert measures.loc[latent].to_dict() == pytest.approx(expected)
        own = found.against_null[latent, "a"]
        assert own.log_prob == pytest.approx(expected["log_prob"])


def test_controls_in_parts_are_the_whole(tiny_model: Model, tiny_sae: SAE) -> None:
    config = SweepConfig(layers=(1,), scales=(1.0, 8.0), max_new_tokens=3)
    prompts = {"a": scope_prompt(tiny_model, PROMPT)}
    whole = random_sweep(tiny_model, prompts, config)
    spans = ((0, 15), (15, 40))
    parts = pd.concat([random_sweep(tiny_model, prompts, config, span=span) for span in spans])
    assert parts["latent"].tolist() == whole["latent"].tolist()
    assert parts["text"].tolist() == whole["text"].tolist()
    np.testing.assert_allclose(parts["entropy"], whole["entropy"], atol=1e-4)
    given = sweep(tiny_model, tiny_sae, [3], prompts, config, controls=whole)
    made = sweep(tiny_model, tiny_sae, [3], prompts, config)
    assert given.against_null == made.against_null


@pytest.mark.slow
def test_random_directions_pass_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(12):
        controls = swept(rng, 40)
        told = compare_with_null(swept(rng, 60), controls)
        shares.append(np.mean([it.verdict == "stands out" for it in told.values()]))
    # A share of 0.05 on average; each set of controls is off by about 0.035.
    assert np.mean(shares) < 0.05 + 3 * 0.035 / np.sqrt(12)
    clear = compare_with_null(swept(rng, 20, clear=6), controls)
    assert {it.verdict for it in clear.values()} == {"stands out"}
    assert {it.p for it in clear.values()} == {1 / 41}


def test_p_counts_the_directions_that_speak_as_clearly() -> None:
    rng = np.random.default_rng(1)
    controls, table = swept(rng, 40), swept(rng, 9, clear=2)
    told, own, others = (
        compare_with_null(table, controls),
        clarity_measures(table),
        clarity_measures(controls),
    )

    def clearness(row: pd.Series) -> float:
        total = 0.0
        for name, sign in (("entropy", -1), ("log_prob", 1), ("agreement", 1)):
            score = sign * (row[name] - others[name].mean()) / others[name].std()
            total += min(3.0, max(-3.0, score))
        return total

    rivals = [clearness(row) for _, row in others.iterrows()]
    for latent, one in told.items():
        as_clear = sum(it >= clearness(own.loc[latent]) for it in rivals)
        assert one.p == pytest.approx((1 + as_clear) / 41)
        assert one.verdict == verdict_of(one.p)
        assert f"{one.p:.0%}" in one.sentence
    assert [verdict_of(p) for p in (0.05, 0.051, 0.25, 0.251)] == [
        "stands out",
        "unclear",
        "unclear",
        "unexplainable",
    ]


def test_one_scale_has_no_agreement_and_still_gets_a_verdict() -> None:
    rng = np.random.default_rng(2)

    def once(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["layer"] == 1) & (table["scale"] == 2.0)]

    told = compare_with_null(once(swept(rng, 4, clear=6)), once(swept(rng, 40)))
    assert all(it.agreement == 0 for it in told.values())
    assert any(it.verdict == "stands out" for it in told.values())


def test_what_cannot_be_compared_is_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="use 19 or more"):
        compare_with_null(swept(rng, 2), swept(rng, 10))
    with pytest.raises(ValueError, match="sweep them alike"):
        compare_with_null(swept(rng, 2).query("layer == 1"), swept(rng, 40))
    # Controls of fewer layers are enough: latents are judged there.
    assert compare_with_null(swept(rng, 2), swept(rng, 40).query("layer == 2"))


def test_wide_sweeps_are_judged_on_some_of_it() -> None:
    config = SweepConfig(layers=tuple(range(12)), multiples=tuple(np.linspace(0, 3, 40)))
    fewer = config.for_controls
    assert fewer.layers == (0, 6, 11)
    assert (len(fewer.multiples), fewer.multiples[0], fewer.multiples[-1]) == (8, 0, 3)
    assert fewer.sampling.n_samples == 1
    assert SweepConfig(layers=(1, 2)).for_controls.multiples == SweepConfig().multiples


def test_many_texts_are_thinned_evenly() -> None:
    texts = [f"a b {i % 3}" for i in range(601)]
    assert mean_overlap(texts) == pytest.approx(mean_overlap(texts[:61:1]), abs=0.05)
    assert mean_overlap(["a"]) == 0.0
