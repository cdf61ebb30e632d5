"""The whole run through the real client: answers of every kind, and scores told a second way."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import SAE
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
)

from core.autointerp import AutoInterp, AutoInterpConfig, Example
from core.autointerp.detection_statistics import detection_statistics
from core.autointerp.parsing import UnreadableAnswer
from core.corpus import TokenSet
from core.llm import Budget, ChatEndpoint, Price
from core.models import Model
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai

KEYS = {"explanation", "predictions", "correct seqs", "score", "status", "error", "numbers"}


@pytest.fixture(autouse=True)
def _no_ambient_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        running.reply = reply("None")
        yield running


@pytest.fixture(scope="module")
def token_set() -> TokenSet:
    rows = torch.randint(4, 290, (48, 33), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    return TokenSet.from_rows(rows, bos_id=0)


def is_scoring(body: dict[str, Any]) -> bool:
    return "numbered texts" in body["messages"][0]["content"]


def is_reminder(body: dict[str, Any]) -> bool:
    return "could not be read" in body["messages"][-1]["content"]


def reply(prediction: str | dict[str, Any], reminded: str | dict[str, Any] | None = None) -> Any:
    def answer(body: dict[str, Any]) -> str | dict[str, Any]:
        if not is_scoring(body):
            return "This neuron activates on some bytes."
        return prediction if reminded is None or not is_reminder(body) else reminded

    return answer


def make(
    service: LoopbackOpenAI,
    model: Model,
    sae: SAE,
    token_set: TokenSet,
    latents: list[int],
    **options: Any,
) -> AutoInterp:
    # Below that share, random examples of this model are hardly ever silent.
    cfg = AutoInterpConfig(
        latents, buffer=4, total_tokens=48 * 33, scoring=True, act_threshold_frac=0.6
    )
    fields = {"backoff_seconds": 0.02, "timeout_seconds": 10.0, **options.pop("fields", {})}
    endpoint = ChatEndpoint("gpt-4o-mini", service.url, GOOD_KEY, **fields)
    options.setdefault("prices", {"gpt-4o-mini": Price(1.0, 2.0)})
    return AutoInterp(cfg, model, sae, token_set, endpoint=endpoint, **options)


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_numbers_are_those_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    active, predicted = map(list, zip(*pairs, strict=True))
    found = detection_statistics(active, predicted)
    assert found.accuracy == pytest.approx(accuracy_score(active, predicted))
    assert found.all_none == pytest.approx(accuracy_score(active, [False] * len(active)))
    nan = {"zero_division": np.nan}
    if len(active) > 1:
        assert found.accuracy_low <= found.accuracy <= found.accuracy_high
    else:
        assert np.isnan([found.accuracy_low, found.accuracy_high]).all()
    if len(set(active)) == 2:
        expected = precision_score(active, predicted, **nan)
        assert found.precision == pytest.approx(expected, nan_ok=True)
        assert found.recall == pytest.approx(recall_score(active, predicted, **nan), nan_ok=True)
        assert found.f1 == pytest.approx(f1_score(active, predicted, **nan), nan_ok=True)
        assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(active, predicted))
    else:
        # Nothing can be told apart, whatever a formula gives.
        scores = [found.balanced_accuracy, found.f1, found.precision, found.recall]
        assert np.isnan(scores).all()
    intervals = [found.balanced_low, found.balanced_high, found.f1_low, found.f1_high]
    if min(sum(active), len(active) - sum(active)) > 1:
        assert found.balanced_low <= found.balanced_accuracy <= found.balanced_high
        assert found.f1_low <= found.f1 <= found.f1_high
    else:
        # Drawing one and the same example again tells nothing of others.
        assert np.isnan(intervals).all()


def test_the_interval_is_that_of_drawing_examples_again() -> None:
    active = [True] * 4 + [False] * 8
    predicted = [True] * 3 + [False] * 8 + [True]
    found = detection_statistics(active, predicted)
    assert found.all_none == pytest.approx(2 / 3)
    right = np.equal(active, predicted)
    draws = right[np.random.default_rng(1).integers(0, 12, (20000, 12))].mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.accuracy_low == pytest.approx(low, abs=1 / 12)
    assert found.accuracy_high == pytest.approx(high, abs=1 / 12)
    with pytest.raises(ValueError, match="one of each"):
        detection_statistics([], [])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1, 4, 7, 8", [1, 4, 7, 8]),
        ("None", []),
        ("None.", []),
        (" none \n", []),
        ("1 and 4", [1, 4]),
        ("1, 4, and 7.", [1, 4, 7]),
        ("[1, 4]", [1, 4]),
        ("[]", []),
        ("```2,3```", [2, 3]),
        ("Answer: 2", [2]),
        ("2\n5\n", [2, 5]),
        ("１，４", [1, 4]),
        ("12", [12]),
    ],
)
def test_predictions_that_can_be_read(
    answer: str, expected: list[int], tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = AutoInterp(AutoInterpConfig([1]), tiny_model, tiny_sae, token_set, GOOD_KEY)
    assert autointerp.parse_predictions(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The texts 1 and 4 fit, out of 12.",
        "I looked at 10 examples.",
        "0, 3",
        "-1",
        "1.5",
        "one",
        "one, three",
        "1, x",
        "[1",
        "N/A",
        "4, 4",
        "1-4",
        "1–4",
        "1 to 4",
        "null",
        "[true]",
        "[1.0]",
        '{"numbers": null}',
        '{"numbers": [1, 1]}',
        '{"1": true}',
        '{"numbers": [1]} {"numbers": [2]}',
        "9" * 5000,
    ],
)
def test_predictions_that_cannot(
    answer: str, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = AutoInterp(AutoInterpConfig([1]), tiny_model, tiny_sae, token_set, GOOD_KEY)
    with pytest.raises(UnreadableAnswer):
        autointerp.parse_predictions(answer)


def test_prompts_show_marks_to_the_explainer_alone(
    tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = AutoInterp(AutoInterpConfig([1]), tiny_model, tiny_sae, token_set, GOOD_KEY)
    ids = tiny_model.to_tokens("the river runs", prepend_bos=False)[0].tolist()
    examples = [
        Example(ids, [0.0] * (len(ids) - 1) + [float(i)], 0.5, tiny_model) for i in range(3)
    ]
    generation = autointerp.get_generation_prompts(examples)
    scoring = autointerp.get_scoring_prompts("rivers", examples)
    for messages in (generation, scoring):
        assert [message["role"] for message in messages] == ["system", "user"]
        assert re.findall(r"^(\d+)\. ", messages[1]["content"], re.MULTILINE) == ["1", "2", "3"]
    assert generation[1]["content"].count("<<") == 2
    assert "<<" not in scoring[0]["content"] + scoring[1]["content"]
    assert "rivers" in scoring[1]["content"]
    assert autointerp.parse_explanation("This neuron activates on the word 'x'.") == "the word 'x'"
    assert autointerp.score_predictions([2, 3], examples) == pytest.approx(1.0)
    assert autointerp.score_predictions([1], examples) == 0
    assert autointerp.score_predictions([], examples) == pytest.approx(1 / 3)
    for wrong in (
        autointerp.get_generation_prompts,
        lambda e: autointerp.get_scoring_prompts("", e),
    ):
        with pytest.raises(ValueError, match="no examples"):
            wrong([])


@pytest.mark.slow
def test_a_perfect_judge_scores_one(
    service: LoopbackOpenAI, any_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = make(service, any_model, tiny_sae, token_set, [3, 40, 17])
    data = autointerp.gather_data()
    truth = {
        autointerp.get_scoring_prompts("some bytes", scoring)[1]["content"]: ", ".join(
            str(n) for n, ex in enumerate(scoring, 1) if ex.is_active
        )
        for scoring in data[1].values()
    }
    service.reply = lambda body: (
        truth[body["messages"][1]["content"]] or "None"
        if is_scoring(body)
        else "It activates on some bytes."
    )
    seen: list[int] = []
    results = autointerp.run(data=data, on_result=lambda latent, _: seen.append(latent))
    assert list(results) == [3, 40, 17]
    assert sorted(seen) == [3, 17, 40]
    for latent, result in results.items():
        assert result.keys() >= KEYS
        assert (result["status"], result["score"]) == ("scored", 1.0)
        assert result["explanation"] == "some bytes"
        assert result["predictions"] == result["correct seqs"]
        assert result["numbers"]["balanced_accuracy"] in (1, None)
        active = [number for number, ex in enumerate(data[1][latent], 1) if ex.is_active]
        assert result["correct seqs"] == active
    room = AutoInterpConfig([1]).thinking_tokens
    assert room >= 1000
    assert all(body["max_tokens"] - room in (25, 29) for body in service.questions())


def test_always_none_scores_the_baseline(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = make(service, tiny_model, tiny_sae, token_set, list(range(8)))
    for result in autointerp.run().values():
        assert result["score"] == result["numbers"]["all_none"]
        assert result["numbers"]["recall"] in (0, None)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("I think 1 and 4 fit.", "1, 4", "scored"),
        ("I think 1 and 4 fit.", "Still 1 and 4.", "failed"),
        ("99", "1", "scored"),
        ("99", "98", "failed"),
        ("", "None", "scored"),
        ({"content": None}, {"content": None}, "failed"),
        ({"refusal": "No."}, {"refusal": "No again."}, "failed"),
    ],
)
def test_unreadable_answers_are_asked_for_once_more(
    service: LoopbackOpenAI,
    tiny_model: Model,
    tiny_sae: SAE,
    token_set: TokenSet,
    first: str | dict[str, Any],
    second: str | dict[str, Any],
    status: str,
) -> None:
    service.reply = reply(first, second)
    autointerp = make(service, tiny_model, tiny_sae, token_set, [3])
    result = autointerp.run()[3]
    assert result["status"] == status
    assert len(service.questions()) == 3
    assert result["explanation"] == "some bytes"
    assert len(result["prediction raw"]) == 2
    assert (result["score"] is None) == (status == "failed") == bool(result["error"])
    assert is_reminder(service.questions()[2])


def test_explanations_that_cannot_be_read_fail_with_the_raw_text(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    service.reply = lambda body: "I'm sorry, but I cannot help with that."
    result = make(service, tiny_model, tiny_sae, token_set, [3]).run()[3]
    assert (result["status"], result["explanation"], result["score"]) == ("failed", None, None)
    assert result["explanation raw"] == ["I'm sorry, but I cannot help with that."] * 2


def test_every_latent_ends_in_a_storm_and_a_second_run_is_free(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet, tmp_path: Path
) -> None:
    some = ["1, 2", "None.", "1 and 4", "99", "Well, 3.", "", "２", "[2]"]

    def answer(body: dict[str, Any]) -> str:
        text = str(body["messages"])
        return (
            some[len(text) % len(some)] if is_scoring(body) else f"activates on thing {len(text)}."
        )

    service.reply = answer
    faults = [
        Fault(status=429, retry_after="0.05"),
        Fault(status=500),
        Fault(body=b'{"cho'),
        Fault(cut=True),
    ]
    service.faults = faults * 6
    store = Store(tmp_path / "store")
    latents = list(range(24))
    runs = [
        make(
            service,
            tiny_model,
            tiny_sae,
            token_set,
            latents,
            store=store,
            fields={"max_retries": 9},
        )
        for _ in range(2)
    ]
    data = runs[0].gather_data()
    first = runs[0].run(data=data)
    assert list(first) == latents
    assert {result["status"] for result in first.values()} <= {"scored", "failed"}
    asked = len(service.requests)
    assert runs[1].run(data=data) == first
    assert len(service.requests) == asked
    assert runs[1].session.spending.dollars == 0
    store.close()


def test_a_budget_stops_the_rest_and_the_estimate_was_enough(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    latents = list(range(10))
    stopped = make(service, tiny_model, tiny_sae, token_set, latents, budget=Budget(calls=7))
    data = stopped.gather_data()
    results = stopped.run(data=data)
    assert len(service.requests) == 7
    assert {result["status"] for result in results.values()} <= {"scored", "stopped"}
    assert sum(result["status"] == "stopped" for result in results.values()) >= 6
    assert results.keys() == set(latents)
    free = make(service, tiny_model, tiny_sae, token_set, latents)
    estimate = free.estimate(data)
    free.run(data=data)
    assert free.session.spending.calls == estimate.calls == 20
    assert estimate.dollars is not None
    assert free.session.spending.dollars is not None
    assert free.session.spending.dollars > 0


def test_a_dead_service_fails_every_latent_in_one_sentence(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    service.faults = [Fault(status=404)] * 50
    results = make(service, tiny_model, tiny_sae, token_set, [1, 2, 3]).run()
    assert {result["status"] for result in results.values()} == {"failed"}
    assert all("status 404" in result["error"] for result in results.values())
    assert GOOD_KEY not in str(results)


def test_an_edited_explanation_is_scored_as_it_stands(
    service: LoopbackOpenAI, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    autointerp = make(service, tiny_model, tiny_sae, token_set, [3])
    result = autointerp.run(explanations={3: "my own words"})[3]
    assert result["explanation"] == "my own words"
    (body,) = service.questions()
    assert "my own words" in body["messages"][1]["content"]
