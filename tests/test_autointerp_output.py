"""The output metric and TokenChange: choices among three sets, and rises against plain runs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.autointerp.examples import Example
from core.autointerp.explain import Roles, explain_and_score, first_requests
from core.autointerp.lexical import LexicalJudge
from core.autointerp.output_choice import ChatSetJudge, OutputChoice
from core.autointerp.prompts import generation_prompts
from core.autointerp.roles import Evidence, Explained, Judged, Material, NoScore
from core.autointerp.steered import LEAST_POOL, pool_of, steered_sets
from core.lease import PlainLease
from core.llm import ChatEndpoint, ChatSession
from core.models import Model, hooks_at
from core.steering.effects import divergences, reference_text
from core.steering.intervention import Intervention
from core.steering.steerer import Steerer
from core.steering.strengths import solved
from core.steering.token_change import token_changes
from core.store import Store
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai

WORDS = {3: "the river runs", 5: "In 1998", 8: "a bridge of Rome", 11: "Nobody does that"}


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


@pytest.fixture(scope="module")
def sets(tiny_model: Model) -> dict[int, list[Example]]:
    found = {}
    for latent, text in WORDS.items():
        ids = tiny_model.to_tokens(text, prepend_bos=False)[0].tolist()
        found[latent] = [Example(ids, [0.0] * len(ids), 0.0, tiny_model)] * 2
    return found | {20: []}


def scored(judge, sets, latent: int, text: str, **others):
    material = Material(Evidence(latent, []))
    return asyncio.run(OutputChoice(judge, sets, **others).score(Explained(text), material))


def test_words_tell_the_set_that_fits_and_a_tie_is_chance(
    sets: dict[int, list[Example]],
) -> None:
    found = scored(LexicalJudge(), sets, 3, '"river"')
    assert found.score == 1.0
    assert found.chance == pytest.approx(1 / 3)
    assert sum(row["truth"] for row in found.rows) == 3
    assert len(found.rows) == 9
    assert scored(LexicalJudge(), sets, 3, '"1998"', n_trials=40).score < 1
    # What fits nothing fits all alike: that is no better than knowing nothing.
    assert scored(LexicalJudge(), sets, 3, '"elsewhere"').score == pytest.approx(1 / 3)
    with pytest.raises(NoScore, match="at no strength"):
        scored(LexicalJudge(), sets, 20, '"river"')
    with pytest.raises(NoScore, match="two other latents"):
        scored(LexicalJudge(), {3: sets[3], 5: sets[5]}, 3, '"river"')


def test_who_knows_nothing_is_right_in_one_of_three(sets: dict[int, list[Example]]) -> None:
    class First:
        async def choose(self, explained, sets) -> Judged:
            return Judged([1])

    found = scored(First(), sets, 3, "anything", n_trials=900)
    assert found.score == pytest.approx(1 / 3, abs=4 * (2 / 9 / 900) ** 0.5)


def test_a_chat_model_chooses_one_set(
    service: LoopbackOpenAI, sets: dict[int, list[Example]]
) -> None:
    def reply(body) -> str:
        shown = body["messages"][1]["content"].split("Set ")[1:]
        [right] = [one[0] for one in shown if "river" in one]
        return right

    service.reply = reply
    chat = ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01))
    scorer = OutputChoice(ChatSetJudge(chat, thinking_tokens=0), sets)
    material = Material(
        Evidence(3, sets[3]),
        [
            Example(sets[3][0].toks, [1.0] * len(sets[3][0].toks), 0.5, _Named()),
            Example(sets[5][0].toks, [0.0] * len(sets[5][0].toks), 0.5, _Named()),
        ],
    )
    roles = Roles(LexicalJudge(), LexicalJudge(), [scorer])  # type: ignore[arg-type]
    result = explain_and_score({3: material}, roles, given={3: '"river"'}, session=chat)[3]
    assert result["scores"]["output"]["score"] == 1.0
    assert len(service.questions()) == 3
    assert "made stronger" in service.questions()[0]["messages"][0]["content"]
    assert len(first_requests({3: material}, roles, explanation_tokens=25)) == 3
    # Two sets, or none, are no choice: asked once more, and then there is no score.
    service.reply = lambda body: "1, 2"
    chat = ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01))
    scorer = OutputChoice(ChatSetJudge(chat, thinking_tokens=0), sets)
    roles = Roles(LexicalJudge(), LexicalJudge(), [scorer])  # type: ignore[arg-type]
    result = explain_and_score({3: material}, roles, given={3: '"river"'}, session=chat)[3]
    assert result["scores"]["output"]["status"] == "failed"
    assert "names 2 sets" in result["scores"]["output"]["error"]
    assert result["status"] == "scored", "detection stands without it"


class _Named:
    def to_str_tokens(self, tokens) -> list[str]:
        return [f" t{int(it)}" for it in tokens]


@pytest.mark.slow
def test_sets_are_written_at_one_divergence_and_kept(
    tiny_model: Model, tiny_sae: SAE, tmp_path: Path
) -> None:
    store, lease = Store(tmp_path), PlainLease(tiny_model, [tiny_sae])
    found = steered_sets(lease, store, [3, 9], 64)
    assert list(found)[:2] == [3, 9]
    assert len(found) == LEAST_POOL
    assert all(len(texts) in (0, 6) for texts in found.values())
    assert found[3] != found[9]
    lease = PlainLease(tiny_model, [tiny_sae])
    assert steered_sets(lease, store, [3, 9], 64) == found
    assert pool_of(range(8), 64, 0) == list(range(8))
    assert pool_of([1], 3, 0) == [1, *pool_of([1], 3, 0)[1:]]
    assert len(pool_of([1], 3, 0)) == 3


def test_token_change_is_the_rise_of_the_mean_probability(any_model: Model, tiny_sae: SAE) -> None:
    texts = torch.randint(4, 290, (3, 9), generator=torch.Generator().manual_seed(0))
    texts[:, 0] = 0
    latents, site = [3, 9], "blocks.1.hook_resid_pre"
    found = token_changes(any_model, tiny_sae, latents, texts, n_leading=1, k=4, kl=0.2)
    reference = reference_text(any_model, texts[:1], 1)
    with torch.no_grad():
        plain = any_model(texts, return_type="logits")[:, 1:].softmax(-1).mean((0, 1))
    for row, latent in enumerate(latents):
        base = Intervention((latent,), (1.0,))
        [factor] = solved(any_model, tiny_sae, [base], reference, 0.2, n_prompt=9, n_leading=1)

        def add(activations, hook, latent=latent, factor=factor):
            changed = activations.clone()
            changed[:, 1:] += factor * tiny_sae.W_dec[latent]
            return changed

        with hooks_at(any_model, [(site, add)]), torch.no_grad():
            probs = any_model(texts, return_type="logits")[:, 1:].softmax(-1).mean((0, 1))
        rise = probs - plain
        assert found.tokens[row].tolist() == rise.topk(4).indices.tolist()
        np.testing.assert_allclose(found.rise[row], rise.topk(4).values, atol=1e-5)
        # The random direction is at the same divergence.
        [other] = solved(
            any_model,
            tiny_sae,
            [Intervention((latent,), (1.0,), random=row + 1)],
            reference,
            0.2,
            n_prompt=9,
            n_leading=1,
        )
        random = Steerer(
            any_model,
            tiny_sae,
            [Intervention((latent,), (other,), random=row + 1)],
            n_prompt=9,
            n_leading=1,
        )
        assert float(divergences(any_model, random, [0], reference)[0]) == pytest.approx(
            0.2, rel=0.021
        )
        with random.around([0] * 3), torch.no_grad():
            probs = any_model(texts, return_type="logits")[:, 1:].softmax(-1).mean((0, 1))
        assert float(found.null[row]) == pytest.approx(float((probs - plain).max()), abs=1e-5)
        beyond = [
            t
            for t, v in zip(found.tokens[row].tolist(), found.rise[row].tolist(), strict=True)
            if v > float(found.null[row])
        ]
        assert found.beyond(row) == beyond
    with pytest.raises(ValueError, match="no text to amplify"):
        token_changes(any_model, tiny_sae, latents, texts[:, :1], n_leading=1)


def test_the_explainer_is_told_what_changes(tiny_model: Model) -> None:
    example = Example([5, 6], [1.0, 0.0], 0.5, tiny_model)
    [_, asked] = generation_prompts([example], with_examples=False, changed=[" river"])
    assert "made stronger in other texts" in asked["content"]
    assert "' river'" in asked["content"]
    [_, asked] = generation_prompts([example], with_examples=False)
    assert "stronger" not in asked["content"]
