"""What the explainer may be told besides: strengths, thoughts, counter-examples, boosted tokens."""

import re
from collections.abc import Iterator

import pytest
import torch
from sae_lens import SAE

from core.autointerp import AutoInterp, AutoInterpConfig, Example, ExplainerOptions
from core.autointerp.examples import split_windows
from core.autointerp.gather import gather_windows
from core.autointerp.negatives import same_token_inactive
from core.autointerp.parsing import UnreadableAnswer, parse_thoughtful
from core.autointerp.prompts import generation_prompts
from core.corpus import TokenSet
from core.lease import PlainLease
from core.llm import ChatEndpoint
from core.models import Model
from tests.dense_index import dense_activations
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


@pytest.fixture(scope="module")
def token_set() -> TokenSet:
    rows = torch.randint(4, 290, (300, 33), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    return TokenSet.from_rows(rows, bos_id=0)


def test_each_switch_adds_its_part_alone(tiny_model: Model) -> None:
    ids = tiny_model.to_tokens("the river runs", prepend_bos=False)[0].tolist()
    examples = [Example(ids, [0.0] * (len(ids) - 1) + [a], 0.1, tiny_model) for a in (8.0, 3.9)]
    plain = generation_prompts(examples, with_examples=True)
    told = {
        "activations": generation_prompts(
            examples, with_examples=True, options=ExplainerOptions(activations=True)
        ),
        "demonstrations": generation_prompts(
            examples, with_examples=True, options=ExplainerOptions(demonstrations=True)
        ),
        "thoughts": generation_prompts(
            examples, with_examples=True, options=ExplainerOptions(chain_of_thought=True)
        ),
        "negatives": generation_prompts(examples, with_examples=True, negatives=examples[:1]),
        "boosted": generation_prompts(examples, with_examples=True, boosted=[" bank", "\n"]),
    }
    for name, messages in told.items():
        assert messages != plain, name
        for part, old in zip(messages, plain, strict=True):
            assert len(part["content"]) >= len(old["content"])
    strengths = re.findall(r"strengths: .* (\d+)\)", told["activations"][1]["content"])
    assert strengths == ["10", "5"]
    negatives = told["negatives"][1]["content"].partition("does not respond")[2]
    assert "river" in negatives
    assert "<<" not in negatives
    assert r"' bank', '\n'" in told["boosted"][1]["content"]


def test_thoughts_are_not_the_explanation() -> None:
    answer = (
        "1. tokens: 'a'\nThis neuron activates on maybe x\nEXPLANATION: This neuron activates on y."
    )
    assert parse_thoughtful(answer) == "y"
    assert parse_thoughtful("This neuron activates on y.") == "y"
    with pytest.raises(UnreadableAnswer, match="thoughts"):
        parse_thoughtful("Step 1: the tokens are")


def test_counterexamples_hold_the_token_and_no_firing(
    any_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    latents = list(range(0, 64, 5))
    cfg = AutoInterpConfig(latents, buffer=2, total_tokens=48 * 33, act_threshold_frac=0.3)
    [gathered] = gather_windows(PlainLease(any_model, [tiny_sae]), token_set, cfg)
    dense = dense_activations(any_model, tiny_sae, token_set, batch_rows=60)
    texts = token_set.tokens.tolist()
    n_found = 0
    for latent in latents:
        windows = gathered[latent]
        found = same_token_inactive(any_model, tiny_sae, token_set, latent, windows, cfg)
        peaks = set(windows.top.tokens[: cfg.n_top_ex, cfg.buffer].tolist())
        used = {*windows.top.rows.tolist(), *windows.random.rows.tolist()}
        n_found += len(found)
        for example in found:
            assert not example.is_active
            assert example.toks[cfg.buffer] in peaks
            places = [
                (row, at)
                for row, line in enumerate(texts)
                for at in range(len(line) - 4)
                if line[at : at + 5] == example.toks
            ]
            assert len(places) == 1
            ((row, at),) = places
            assert row not in used
            assert dense[row, at : at + 5, latent] == pytest.approx(example.acts, abs=1e-4)
    assert n_found > len(latents)


def test_a_run_passes_them_on(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    service.reply = lambda body: "Let me see.\nEXPLANATION: This neuron activates on z."
    cfg = AutoInterpConfig([5], buffer=2, total_tokens=48 * 33)
    endpoint = ChatEndpoint("toy", service.url, GOOD_KEY)
    options = ExplainerOptions(chain_of_thought=True)
    autointerp = AutoInterp(
        cfg, tiny_model, tiny_sae, token_set, endpoint=endpoint, options=options
    )
    [gathered] = gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, cfg)
    data = split_windows(gathered, cfg, tiny_model)
    negatives, boosted = {5: data[0][5][:1]}, {5: ["water"]}
    plain = autointerp.estimate(data)
    told = autointerp.estimate(data, negatives=negatives, boosted=boosted)
    assert plain.prompt_tokens < told.prompt_tokens
    result = autointerp.run(data=data, negatives=negatives, boosted=boosted)[5]
    assert result["explanation"] == "z"
    (body,) = service.questions()
    assert "does not respond" in body["messages"][1]["content"]
    assert "'water'" in body["messages"][1]["content"]
    assert body["max_tokens"] == 425 + cfg.thinking_tokens
