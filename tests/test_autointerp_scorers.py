"""Scores beyond detection: against references of another kind, and services that misbehave."""

import asyncio
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from scipy.stats import pearsonr

from core.autointerp import AutoInterp, AutoInterpConfig, Example, LexicalJudge
from core.autointerp.examples import split_windows
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing, fuzzing_items
from core.autointerp.gather import gather_windows
from core.autointerp.generation import Generation, ModelProber, Reviser
from core.autointerp.negatives import (
    NeighbourPrecision,
    nearest_latents,
    neighbour_windows,
    split_neighbours,
)
from core.autointerp.parsing import UnreadableAnswer, parse_texts
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged, Material
from core.autointerp.rules import TextRule, marks_fit, matches, rule_from_text
from core.autointerp.simulation import Simulation, simulated_activations
from core.corpus import TokenSet
from core.lease import PlainLease
from core.llm import ChatAnswer, ChatEndpoint, ChatSession
from core.models import Model
from tests.dense_index import dense_activations
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


@pytest.fixture(scope="module")
def token_set() -> TokenSet:
    rows = torch.randint(4, 290, (60, 33), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    return TokenSet.from_rows(rows, bos_id=0)


def session(service: LoopbackOpenAI) -> ChatSession:
    return ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01))


def example(model: Model, text: str, firing: str = "", act: float = 2.0) -> Example:
    """A text in which every token that ends in `firing`, a part of it, is active."""
    ids = model.to_tokens(text, prepend_bos=False)[0].tolist()
    strings = model.to_str_tokens(torch.tensor(ids))
    begin = text.index(firing) if firing else len(text)
    ends = np.cumsum([len(string) for string in strings])
    acts = [act * float(begin < end <= begin + len(firing)) if firing else 0.0 for end in ends]
    return Example(ids, acts, 0.5, model, source="top" if firing else "random")


def material(model: Model) -> Material:
    texts = [
        example(model, "the river in Rome", "river"),
        example(model, "a long river runs", "river"),
        example(model, "In 1998 there were", ""),
        example(model, "Nobody does that", ""),
    ]
    hard = [example(model, "bridges of the city"), example(model, "a river bed", "river")]
    return Material(Evidence(7, texts[:1]), texts, hard)


def test_marks_are_right_once_and_wrong_once(tiny_model: Model) -> None:
    given = material(tiny_model)
    items = fuzzing_items(given)
    assert len(items) == 4
    for one in given.scoring[:2]:
        mine = [(marks, right) for ex, marks, right in items if ex is one]
        assert sorted(right for _, right in mine) == [False, True]
        for marks, right in mine:
            assert sum(marks) == sum(one.toks_are_active)
            overlap = any(a and b for a, b in zip(marks, one.toks_are_active, strict=True))
            assert overlap == right
    explained = Explained('the word "river"')
    found = asyncio.run(Fuzzing(LexicalJudge()).score(explained, given))
    assert found.score == 1.0
    assert asyncio.run(Fuzzing(LexicalJudge()).score(Explained('"1998"'), given)).score == 0.5
    with pytest.raises(FailedAnswer, match="active"):
        asyncio.run(Fuzzing(LexicalJudge()).score(explained, Material(Evidence(1, []))))


def test_fuzzing_asks_with_marks(service: LoopbackOpenAI, tiny_model: Model) -> None:
    def reply(body: dict[str, Any]) -> str:
        lines = re.findall(r"^(\d+)\. (.*)$", body["messages"][1]["content"], re.MULTILINE)
        right = [n for n, text in lines if re.search(r"<<[^>]*r>>|river>>", text)]
        return ", ".join(right) or "None"

    service.reply = reply
    judge = ChatMarksJudge(session(service))
    found = asyncio.run(Fuzzing(judge).score(Explained("rivers"), material(tiny_model)))
    (body,) = service.questions()
    assert body["messages"][1]["content"].count("<<") >= 4
    assert found.score is not None
    assert len(found.rows) == 4


def test_neighbours_are_nearest_and_carry_the_latents_own_activations(
    any_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    near = nearest_latents(tiny_sae, [5, 9], 4)
    W = torch.nn.functional.normalize(tiny_sae.W_dec, dim=1)
    for latent, row in zip((5, 9), near, strict=True):
        cosines = (W @ W[latent]).numpy()
        cosines[latent] = -2
        assert row.tolist() == np.argsort(-cosines)[:4].tolist()
    with pytest.raises(ValueError, match="k is 64"):
        nearest_latents(tiny_sae, [1], 64)
    cfg = AutoInterpConfig([5, *near[0].tolist()], buffer=3, total_tokens=60 * 33)
    [gathered] = gather_windows(PlainLease(any_model, [tiny_sae]), token_set, cfg)
    found = neighbour_windows(any_model, tiny_sae, token_set, 5, gathered, near[0].tolist(), cfg)
    dense = dense_activations(any_model, tiny_sae, token_set)
    assert len(found) > 4
    for i in range(len(found)):
        span = slice(found.positions[i] - 3, found.positions[i] + 4)
        np.testing.assert_allclose(found.acts[i], dense[found.rows[i], span, 5], atol=1e-4)
        tops = [gathered[int(other)].top for other in near[0]]
        assert any(((t.tokens == found.tokens[i]).all(1)).any() for t in tops)
    threshold = float(gathered[5].top.acts.max()) * 0.3
    contrast, scored = split_neighbours(found, threshold, any_model, cfg, n_contrast=3, n_scoring=6)
    assert not any(ex.is_active for ex in contrast)
    assert not {tuple(ex.toks) for ex in contrast} & {tuple(ex.toks) for ex in scored}


def test_neighbour_precision_by_a_perfect_and_a_broad_judge(tiny_model: Model) -> None:
    given = material(tiny_model)

    class Everything:
        async def judge(self, explained: Explained, examples: list[Example]) -> Judged:
            return Judged(list(range(1, len(examples) + 1)))

    perfect = asyncio.run(NeighbourPrecision(LexicalJudge()).score(Explained('"river"'), given))
    assert perfect.score == 1.0
    assert len(perfect.rows) == 4  # two of its own, two of neighbours
    broad = asyncio.run(NeighbourPrecision(Everything()).score(Explained("anything"), given))
    assert broad.score == 0.5
    assert broad.numbers["precision"] == 0.75
    bare = Material(given.evidence, given.scoring)
    with pytest.raises(FailedAnswer, match="neighbours"):
        asyncio.run(NeighbourPrecision(LexicalJudge()).score(Explained("x"), bare))


def test_simulation_is_pearsons_correlation_of_expected_values(
    service: LoopbackOpenAI, tiny_model: Model
) -> None:
    rng = np.random.default_rng(0)
    said: list[float] = []

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        n = int(re.findall(r"the (\d+) tokens", body["messages"][0]["content"])[0])
        content, text = [], ""
        for number in range(1, n + 1):
            low = int(rng.integers(0, 10))
            p = float(rng.uniform(0.2, 0.8))
            said.append(low * p + (low + 1) * (1 - p))
            tops = [(str(low), math.log(p)), (str(low + 1), math.log(1 - p)), ("x", -9.0)]
            for token, alternatives in (
                (f"{number}", [(f"{number}", -0.1)]),
                (" ", [(" ", -0.1)]),
                (str(low), tops),
                ("\n", [("\n", -0.1)]),
            ):
                text += token
                content.append(
                    {
                        "token": token,
                        "logprob": -0.1,
                        "bytes": None,
                        "top_logprobs": [
                            {"token": t, "logprob": v, "bytes": None} for t, v in alternatives
                        ],
                    }
                )
        return {"content": text, "logprobs": {"content": content, "refusal": None}}

    service.reply = reply
    given = material(tiny_model)
    scorer = Simulation(session(service), n_examples=4)
    found = asyncio.run(scorer.score(Explained("rivers"), given))
    true = [act for ex in scorer.chosen(given.scoring) for act in ex.acts]
    assert found.score == pytest.approx(pearsonr(said, true).statistic, abs=1e-9)
    assert all(body["logprobs"] for body in service.questions())


def test_simulation_without_log_probabilities_fails_in_words(
    service: LoopbackOpenAI, tiny_model: Model
) -> None:
    service.reply = lambda body: "1 0\n2 3"
    with pytest.raises(FailedAnswer, match="log-probabilities"):
        asyncio.run(Simulation(session(service)).score(Explained("x"), material(tiny_model)))
    short = ChatAnswer(
        "1 0", logprobs=({"1": -0.1}, {" ": 0.0}, {"0": 0.0}), tokens=("1", " ", "0")
    )
    assert simulated_activations(short, 1) == [0.0]
    with pytest.raises(UnreadableAnswer, match="1 lines"):
        simulated_activations(short, 2)


def test_written_texts_are_told_by_the_model_and_lead_to_a_revision(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    texts = ["The Eiffel tower", "Paris and the river", "in 1998 there", "Who knows?"]
    latent = 9
    prober = ModelProber(PlainLease(tiny_model, [tiny_sae]), {latent: 0.0})
    probed = prober(latent, texts)
    rows = [tiny_model.to_tokens(text)[0] for text in texts]
    for one, row in zip(probed, rows, strict=True):
        alone = TokenSet.from_rows(row[None], bos_id=0)
        dense = dense_activations(tiny_model, tiny_sae, alone)
        assert one.toks == row[1:].tolist()
        np.testing.assert_allclose(one.acts, dense[0, 1:, latent], atol=1e-4)
    fires = [ex.is_active for ex in probed]

    def reply(body: dict[str, Any]) -> str:
        if "YES or NO" in body["messages"][0]["content"]:
            return "\n".join(
                [
                    f"1. YES: {texts[0]}",
                    f"**YES:** {texts[1]}",
                    f"NO: {texts[2]}",
                    f"no: {texts[3]}",
                ]
            )
        return "This neuron activates on something narrower."

    service.reply = reply
    chat = session(service)
    generation = Generation(chat, prober, n_texts=2)
    evidence = Evidence(latent, [])
    explained = Explained("places", [{"role": "user", "content": "Explain."}])
    found = asyncio.run(generation.score(explained, Material(evidence)))
    wanted = [True, True, False, False]
    right = np.equal(fires, wanted)
    assert found.score == pytest.approx((right[:2].mean() + right[2:].mean()) / 2)
    assert [row["truth"] for row in found.rows] == fires
    revised = asyncio.run(Reviser(session(service), max_tokens=25).revise(explained, found))
    if right.all():
        assert revised is None
    else:
        assert revised is not None
        assert revised.text == "something narrower"
        shown = service.questions()[-1]["messages"][-1]["content"]
        silent = [text for text, fired in zip(texts[:2], fires[:2], strict=True) if not fired]
        assert all(text in shown for text in silent)


@pytest.mark.parametrize("answer", ["", "YES: only one kind", "I cannot do that.", "NO: x\nYES: -"])
def test_texts_that_cannot_be_read(answer: str) -> None:
    with pytest.raises(UnreadableAnswer):
        parse_texts(answer)


def test_quantile_examples_are_spread_over_the_activations(
    tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    latents = [3, 9, 17, 40]
    plain = AutoInterpConfig(latents, buffer=3, total_tokens=60 * 33)
    spread = AutoInterpConfig(latents, buffer=3, total_tokens=60 * 33, across_quantiles=True)
    dense = dense_activations(tiny_model, tiny_sae, token_set)
    for cfg in (plain, spread):
        [gathered] = gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, cfg)
        generation, scoring = split_windows(gathered, cfg, tiny_model)
        for latent in latents:
            middle = [ex.acts[3] for ex in generation[latent]]
            assert middle == sorted(middle, reverse=True)
            values = dense[:, 3:-3, latent]
            values = np.sort(values[values > 0.1 * dense[:, 3:-3, latent].max()])
            ranks = np.searchsorted(values, np.array(middle) - 1e-4) / len(values)
            if cfg.across_quantiles:
                assert ranks.min() < 0.35
                assert all(ex.is_active for ex in generation[latent])
            else:
                assert len(values) < 60 or ranks.min() > 0.35
            used = {tuple(ex.toks) for ex in scoring[latent]}
            assert not used & {tuple(ex.toks) for ex in generation[latent]}


@pytest.mark.parametrize(
    ("text", "fits", "not_"),
    [
        ('the word "cat" in stories', "a Cat sat", "concat it"),
        ("the words 'cat' and 'dog'", "a dog sat", "a doge"),
        ('words starting with "con"', "they convert", "second"),
        ('words ending in "ing"', "running", "ingots"),
        ('"ver" inside longer words', "the river", "riser"),
        ("the substring “ver”", "over it", "riser"),
        ('the phrase "as well"', "it is as well", "well as"),
        ("numbers and years", "in 1998", "in time"),
        ("bridges over rivers", "old bridges", "old towers"),
    ],
)
def test_any_text_can_be_matched_by_its_words(
    text: str, fits: str, not_: str, tiny_model: Model
) -> None:
    rule = rule_from_text(text)
    assert matches(rule, example(tiny_model, fits))
    assert not matches(rule, example(tiny_model, not_))


def test_texts_that_name_nothing_and_marks() -> None:
    assert rule_from_text("some words").is_empty
    assert rule_from_text("").is_empty
    assert not TextRule(words=("a",)).is_empty


def test_marks_count_where_the_word_is(tiny_model: Model) -> None:
    one = example(tiny_model, "the river in Rome", "river")
    rule = rule_from_text('"river"')
    assert marks_fit(rule, one, one.toks_are_active)
    assert not marks_fit(rule, one, [not active for active in one.toks_are_active])


def test_a_run_carries_every_score(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    def reply(body: dict[str, Any]) -> str:
        asked = body["messages"][0]["content"]
        if "YES or NO" in asked:
            return "YES: The Eiffel tower\nNO: in 1998"
        return "1" if "numbered texts" in asked else "This neuron activates on places."

    service.reply = reply
    chat = session(service)
    cfg = AutoInterpConfig(
        [9, 12], buffer=3, total_tokens=60 * 33, scoring=True, act_threshold_frac=0.6
    )
    prober = ModelProber(PlainLease(tiny_model, [tiny_sae]), {9: 0.0, 12: 0.0})
    autointerp = AutoInterp(
        cfg,
        tiny_model,
        tiny_sae,
        token_set,
        endpoint=ChatEndpoint("toy", service.url, GOOD_KEY),
        scorers=[
            Fuzzing(ChatMarksJudge(chat)),
            Generation(chat, prober, n_texts=1),
            Simulation(chat, n_examples=1),
        ],
        reviser=Reviser(chat, max_tokens=25),
    )
    data = autointerp.gather_data()
    assert autointerp.estimate(data).calls >= 2 * 5
    results = autointerp.run(data=data)
    for result in results.values():
        assert result["status"] == "scored"
        assert result["scores"]["fuzzing"]["status"] == "scored"
        assert result["scores"]["generation"]["status"] == "scored"
        # Its failure costs no other score.
        assert result["scores"]["simulation"]["status"] == "failed"
        assert "log-probabilities" in result["scores"]["simulation"]["error"]
        assert result["revision"]["status"] in ("revised", "unchanged")
        if result["revision"]["status"] == "revised":
            assert 0 <= result["revision"]["numbers"]["accuracy"] <= 1
