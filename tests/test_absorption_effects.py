"""Integrated gradients at absorbed positions, and prompts that ask for first letters."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.absorption.effects import (
    STEPS,
    effects_of,
    integrated_gradients,
    letter_metric,
    next_token_metric,
)
from core.absorption.sites import text_sites
from core.absorption.spelling import (
    EXAMPLES,
    LETTERS,
    Accuracy,
    Spelling,
    asked_spelling,
    spelling_accuracy,
)
from core.corpus import TokenSet
from core.lease import PlainLease
from core.models import Model, cache_sites, hooks_at
from core.saes import encode
from tests.builders import make_sae

SITE, POSITION = "blocks.1.hook_resid_pre", 4


@pytest.fixture(scope="module")
def sae() -> SAE:
    return make_sae("standard", d_in=32, d_sae=64, hook_name=SITE, seed=3)


def metric_without(model: Model, tokens, metric, taken) -> float:
    """The metric with `taken` off the stream at the position, by a hook of its own."""

    def hook_function(activations, hook):
        changed = activations.clone()
        changed[:, POSITION] -= taken
        return changed

    with hooks_at(model, [(SITE, hook_function)]), torch.no_grad():
        return float(metric(model(tokens, return_type="logits"))[0])


def test_parts_add_up_to_the_difference_and_are_gradients_on_the_way(
    any_model: Model, sae: SAE, tiny_tokens
) -> None:
    tokens = tiny_tokens[:1]
    metric = next_token_metric(int(tokens[0, POSITION + 1]), POSITION)
    acts = encode(sae, cache_sites(any_model, tokens, [SITE])[SITE])[0, POSITION]
    found = integrated_gradients(any_model, sae, tokens, POSITION, metric)
    assert found.latents.tolist() == acts.nonzero()[:, 0].tolist()
    assert len(found.latents) > 5
    parts = acts[found.latents, None] * sae.W_dec[found.latents]
    # Completeness: what all latents bring is the metric with them less that without them.
    whole = metric_without(any_model, tokens, metric, 0 * parts[0])
    without = metric_without(any_model, tokens, metric, parts.sum(0))
    assert found.difference == pytest.approx(whole - without, abs=1e-5)
    assert -found.effects.sum() == pytest.approx(whole - without, rel=1e-3)
    assert found.gap < 1e-3
    rough = integrated_gradients(any_model, sae, tokens, POSITION, metric, steps=1)
    assert rough.gap > found.gap
    # Finite differences: the parts are derivatives in the amount of each latent, averaged.
    h, wanted = 1e-2, np.zeros(len(parts))
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    for alpha, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        base = (1 - alpha) * parts.sum(0)
        for i in (0, len(parts) // 2, len(parts) - 1):
            up, down = (
                metric_without(any_model, tokens, metric, base + sign * h * parts[i])
                for sign in (1, -1)
            )
            wanted[i] += weight * (up - down) / (2 * h)
    for i in (0, len(parts) // 2, len(parts) - 1):
        assert found.effects[i] == pytest.approx(wanted[i], rel=2e-2, abs=2e-5)
    with pytest.raises(ValueError, match="use 1 or more, and a position"):
        integrated_gradients(any_model, sae, tokens, 99, metric)


def test_a_transcoder_s_parts_add_up_where_it_writes(tiny_model: Model, tiny_tokens) -> None:
    made = make_sae(
        "transcoder",
        d_in=32,
        d_sae=40,
        hook_name="blocks.1.ln2.hook_normalized",
        hook_name_out="blocks.1.hook_mlp_out",
    )
    metric = next_token_metric(9, POSITION)
    found = integrated_gradients(tiny_model, made, tiny_tokens[:1], POSITION, metric)
    assert abs(found.difference) > 1e-6
    assert found.gap < 1e-3


def test_effects_are_told_by_latent(tiny_model: Model, sae: SAE) -> None:
    rows = torch.randint(4, 290, (12, 17), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    tokens, lease = TokenSet.from_rows(rows, bos_id=0), PlainLease(tiny_model, [sae])
    sites = text_sites(lease, tokens)
    assert sites.place is not None
    assert (tokens.tokens.ravel()[sites.place] == sites.token).all()
    some = sites.only(np.array([5, 7, 9]))
    assert some.place.tolist() == sites.place[[5, 7, 9]].tolist()
    places = [int(it) for it in sites.place if it % 17 < 15][:4]
    latent = int(sites.acts[[0]].indices[0])
    found = effects_of(lease, tokens, {latent: places[:3], 63: places[3:]})
    assert found.table["latent"].tolist() == [latent, 63]
    assert found.table["checked"].tolist() == [3, 1]
    by_hand = []
    for place in places[:3]:
        row, position = divmod(place, 17)
        ids = rows[row : row + 1, : position + 1]
        one = integrated_gradients(
            tiny_model,
            sae,
            ids,
            position,
            next_token_metric(int(rows[row, position + 1]), position),
        )
        by_hand.append(one.effects[one.latents == latent].sum())
    assert found.table["effect"].iloc[0] == pytest.approx(np.mean(by_hand), abs=1e-6)
    ends = [row * 17 + 16 for row in range(3)]
    with pytest.raises(ValueError, match="No token follows where these latents"):
        effects_of(lease, tokens, {latent: ends})


def test_the_metric_of_letters_is_that_of_sae_spelling() -> None:
    logits = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
    answers = list(range(5, 31))
    found = letter_metric(answers, 3)(logits)
    for row in range(2):
        rest = [float(logits[row, -1, it]) for it in answers if it != answers[3]]
        assert float(found[row]) == pytest.approx(
            float(logits[row, -1, answers[3]]) - np.mean(rest), abs=1e-5
        )


class Speller:
    """Names the first letter of every word but some."""

    def __init__(self, letter: np.ndarray, wrong: int) -> None:
        self._said = (letter + (np.arange(len(letter)) < wrong)) % 26

    def parameters(self):
        yield torch.zeros(1)

    def __call__(self, ids, return_type: str):
        logits = torch.zeros(len(ids), 2, 26)
        logits[torch.arange(len(ids)), -1, torch.from_numpy(self._said[ids[:, 1].numpy()])] = 9.0
        return logits


def test_a_model_is_asked_before_it_is_believed(tiny_model: Model) -> None:
    letter = np.arange(60) % 26
    rows = np.stack([np.zeros(60, int), np.arange(60)], 1)
    prompts = Spelling(TokenSet.from_rows(rows), letter, tuple(range(26)))
    for wrong, answers in ((0, True), (20, True), (40, False)):
        found = spelling_accuracy(Speller(letter, wrong), prompts, most=60)  # type: ignore[arg-type]
        assert (found.right, found.n) == (60 - wrong, 60)
        assert found.answers == answers
    assert found.commonest == pytest.approx(3 / 60)
    assert "names that of 20 (33 %" in found.sentence.replace("33%", "33 %")
    assert not Accuracy(55, 100, 0.5).answers, "no better than naming one letter"
    # The tiny tokenizer has too few words of its own.
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name=SITE)
    with pytest.raises(ValueError, match="choose sets of tokens instead"):
        asked_spelling(PlainLease(tiny_model, [sae]))
    assert len(LETTERS) == 26
    assert EXAMPLES == 10
