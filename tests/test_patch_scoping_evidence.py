"""What speaks for a text: choices, overlap with definitions, naming, controls, the SAE's fit."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sae_lens import SAE

from core.models import Model
from core.patch_scoping.choice import agreement, choose
from core.patch_scoping.controls import UNTOUCHED, control_sweep
from core.patch_scoping.diagnostics import default_diagnostic_layer, diagnose
from core.patch_scoping.faithfulness import (
    LatentTokens,
    faithfulness,
    named_tokens,
)
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection, random_directions
from core.patch_scoping.prompt import scope_prompt
from core.patch_scoping.reading import (
    PeakWord,
    bootstrap_mean,
    own_definitions,
    peak_words,
    reading_score,
    unigram_f1,
)
from core.patch_scoping.scale_ranking import combined_score
from core.patch_scoping.sweep import SweepConfig, sweep
from core.patch_scoping.transfer import QualitySums, quality, quality_sums, transfer_sentence
from core.tokens import token_texts
from make_demo import measure

PROMPT = 'What is "<unk>"? The "<unk>" is "'
CONFIG = SweepConfig(layers=(1,), scales=(1.0, 8.0, 30.0), max_new_tokens=4, diagnostic_layer=3)


def test_choices() -> None:
    table = pd.DataFrame(
        {
            "latent": 1,
            "prompt": "p",
            "layer": 2,
            "sample": 0,
            "answer": ["a red fox", "a red dog", "grey"],
            "mean_log_prob": [-0.5, -0.4, -0.3],
            "n_tokens": [3, 3, 10],
            "score": [0.9, 0.1, 0.2],
        }
    )
    assert choose(table, "combined")["answer"].tolist() == ["a red fox"]
    assert choose(table, "surest")["answer"].tolist() == ["grey"]
    assert choose(table, "likeliest")["answer"].tolist() == ["a red dog"]
    assert choose(table, "agreed")["answer"].tolist() == ["a red dog"]
    with pytest.raises(ValueError, match="likeliest"):
        choose(table, "loudest")  # type: ignore[arg-type]


def test_agreement_is_the_weighted_mean_overlap() -> None:
    texts, sure = ["a b c", "b c d", "x", "", "a b c"], np.array([-1.0, -0.2, -0.1, -2.0, -0.5])
    found = agreement(texts, sure)
    weights = np.exp(sure) / np.exp(sure).sum()
    for i, text in enumerate(texts):
        slow = sum(w * unigram_f1(text, it) for w, it in zip(weights, texts, strict=True))
        assert found[i] == pytest.approx(slow, abs=1e-6)
    assert np.argmax(found) == 4, "of two equal texts the surer one"


def test_overlap_is_that_of_words_struck_off_one_by_one() -> None:
    for a, b in (("a cat sat", "the cat sat down"), ("x", "y"), ("", ""), ("a a b", "A b b")):
        mine, theirs = a.lower().split(), b.lower().split()
        left = list(theirs)
        shared = [left.remove(word) for word in mine if word in left]
        lengths = len(mine) + len(theirs)
        assert unigram_f1(a, b) == (2 * len(shared) / lengths if shared else 0.0)


def test_bootstrap_is_scipys() -> None:
    values = np.random.default_rng(1).beta(0.5, 0.5, 80)
    found = bootstrap_mean(values)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, random_state=0
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.low, abs=0.01)
    assert found.high == pytest.approx(theirs.high, abs=0.01)


def test_reading_score_is_a_plain_loop() -> None:
    words = [PeakWord(i, 10 + i, word, 1.0) for i, word in enumerate(("cat", "dog", "Cat"))]
    own = {10: "a small cat", 11: "a loud dog", 12: "a small cat"}
    read = {0: "a small cat", 1: "a grey cat", 2: "loud"}
    found = reading_score(words, own, read)
    assert found.f1.value == pytest.approx((1 + unigram_f1(read[1], own[11]) + 0) / 3)
    shuffled = [unigram_f1(read[0], own[11]), unigram_f1(read[1], own[10]), 0.5]
    assert found.table["shuffled"].tolist() == pytest.approx(shuffled), "same words do not count"
    assert found.exact.value == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two words"):
        reading_score(words[::2], own, read)


def test_words_of_peaks_and_their_definitions(tiny_model: Model) -> None:
    tokenizer = tiny_model.tokenizer
    ids = tokenizer(" the", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    peaks = np.full((4, 6), ids[0])
    peaks[1, 3:] = 7
    peaks[2, 5] = -1
    peaks[3] = 20
    found_words = peak_words(peaks, token_texts(tokenizer))
    assert [(it.latent, it.word) for it in found_words] == [(0, "the")]
    prompt = scope_prompt(tiny_model, PROMPT)
    found = own_definitions(tiny_model, prompt, ids, max_new_tokens=5)
    plain = scope_prompt(tiny_model, PROMPT.replace("<unk>", " the"), placeholder="the")
    tokens = [ids[0] if i in prompt.positions else it for i, it in enumerate(prompt.tokens)]
    assert list(plain.tokens) == tokens
    [[expected]] = complete(tiny_model, [Injection(plain.unpatched())], max_new_tokens=5)
    assert found == {ids[0]: expected.answer}


def test_naming() -> None:
    tokens = [" array", " Frame", " the", " arr", "+", " plot"]
    said = "The arrays of a frame, and their plots"
    assert named_tokens(said, tokens) == (True, True, False, False, False, True)
    own = LatentTokens({" array": 0.75, " +": 0.25}, (" frame", " dog", "%"))
    others = [LatentTokens({" cat": 1.0}, (" frame",)), LatentTokens({" cat": 1.0}, (" cow",))]
    found = faithfulness(said, own, others)
    assert (found.active, found.boosted, found.score) == pytest.approx((0.75, 0.5, 0.625))
    assert found.named == ("array", "frame")
    assert found.others == pytest.approx(0.25)
    assert found.p == pytest.approx(1 / 3)


def test_one_layer_is_deaf_to_the_scale_and_the_default_is_not(tiny_model: Model) -> None:
    prompt = scope_prompt(tiny_model, PROMPT)
    directions = random_directions(tiny_model, 2)
    spread = {}
    for layer in (2, 3):
        found = diagnose(
            tiny_model,
            prompt,
            directions,
            (5.0, 500.0),
            replacement_layer=1,
            diagnostic_layer=layer,
        )
        spread[layer] = np.ptp(found.self_similarity, axis=1).max()
    assert spread[2] < 1e-4 < spread[3]
    assert default_diagnostic_layer(tiny_model, 1) == 3
    rounding = np.array([-0.0677, -0.0677 + 1e-9, -0.0677 - 1e-9])
    assert combined_score(rounding, np.zeros(3)).tolist() == [0, 0, 0]


def test_controls_are_sweeps_of_other_directions(tiny_model: Model, tiny_sae: SAE) -> None:
    prompts = {"a": scope_prompt(tiny_model, PROMPT)}
    found = control_sweep(tiny_model, tiny_sae, prompts, CONFIG, n_random=2, others=[7], seed=4)
    assert found.groupby("latent").size().eq(3).all()
    own = sweep(tiny_model, tiny_sae, [7], prompts, CONFIG)
    mine = found[found["latent"] == "latent 7"]
    assert mine["text"].tolist() == own.table["text"].tolist()
    drawn = random_directions(tiny_model, 2, seed=4)[1]
    texts = complete(
        tiny_model, [Injection(prompts["a"], 1, drawn * s) for s in CONFIG.scales], max_new_tokens=4
    )
    theirs = found[found["latent"] == "random direction 2"]
    assert theirs["text"].tolist() == [it.text for [it] in texts]
    [[plain]] = complete(tiny_model, [Injection(prompts["a"].unpatched())], max_new_tokens=4)
    assert set(found[found["latent"] == UNTOUCHED]["text"]) == {plain.text}
    with pytest.raises(ValueError, match="no controls"):
        control_sweep(tiny_model, tiny_sae, prompts, CONFIG, n_random=0)


def test_quality_is_that_of_the_demos_card(tiny_model: Model, tiny_sae: SAE) -> None:
    tokens = torch.randint(4, 290, (6, 20), generator=torch.Generator().manual_seed(2))
    tokens[:, 0] = 0
    counts = torch.ones_like(tokens, dtype=torch.bool)
    counts[:, 0] = False
    sums = QualitySums()
    for rows in (slice(0, 4), slice(4, 6)):
        sums = sums + quality_sums(tiny_model, tiny_sae, tokens[rows], counts[rows])
    found = quality(sums)
    card = measure.sae_quality(tiny_model, tiny_sae, tokens, more_windows=tokens)
    assert found.l0 == pytest.approx(card["l0"])
    assert found.explained_variance == pytest.approx(card["explained_variance"], abs=1e-4)
    assert found.loss == pytest.approx(card["loss_clean"], rel=1e-4)
    assert found.loss_spliced == pytest.approx(card["loss_with_sae"], rel=1e-4)
    assert found.loss_recovered == pytest.approx(card["loss_recovered"], abs=1e-3)
    assert found.n_tokens == card["tokens"]
    assert -1 <= found.cosine <= 1
    with pytest.raises(ValueError, match="no text"):
        quality(QualitySums())


def test_padding_does_not_count(tiny_model: Model, tiny_sae: SAE) -> None:
    tokens = torch.randint(4, 290, (2, 12), generator=torch.Generator().manual_seed(3))
    counts = torch.ones_like(tokens, dtype=torch.bool)
    counts[:, 0], counts[1, 7:] = False, False
    both = quality_sums(tiny_model, tiny_sae, tokens, counts)
    apart = quality_sums(tiny_model, tiny_sae, tokens[:1], counts[:1])
    apart = apart + quality_sums(tiny_model, tiny_sae, tokens[1:, :7], counts[1:, :7])
    for name in ("n", "active", "error", "loss", "loss_spliced", "loss_ablated", "n_predicted"):
        assert getattr(both, name) == pytest.approx(getattr(apart, name), rel=1e-4), name


def test_transfer_in_words(tiny_model: Model, tiny_sae: SAE) -> None:
    tokens = torch.randint(4, 290, (2, 12), generator=torch.Generator().manual_seed(3))
    counts = torch.ones_like(tokens, dtype=torch.bool)
    found = quality(quality_sums(tiny_model, tiny_sae, tokens, counts))
    assert "carries over to the tuned model" in transfer_sentence(found, found)
