"""Judging steered texts by a chat service: its questions, what cannot be read, and the budget."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.autointerp.parsing import UnreadableAnswer
from core.autointerp.text_judge import estimate, harmonic_mean, judge_texts, parse_rating
from core.llm import Budget, ChatEndpoint, ChatSession, Price
from core.store import Store
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai

TEXTS = pd.DataFrame(
    {
        "row": [0, 1, 1, 2],
        "sample": [0, 0, 1, 0],
        "text": ["of the city", "a river in a river", "rivers {run}", "of the city"],
    }
)


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


def session(service: LoopbackOpenAI, **others) -> ChatSession:
    endpoint = ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01)
    return ChatSession(endpoint, **others)


def answer(body) -> str:
    """Rivers are the concept; the instruction is followed in part; repetition is not fluent."""
    asked, text = (it["content"] for it in body["messages"][:2])
    if "The concept: rivers" in asked:
        return "Rating: 2" if "river" in text else "[[0]]"
    if "The beginning: The {x}" in asked:
        return '{"rating": 1}'
    return "0" if "a river in a river" in text else "2"


def test_ratings_and_their_harmonic_mean(service: LoopbackOpenAI, tmp_path: Path) -> None:
    service.reply = answer
    store = Store(tmp_path)
    found = judge_texts(
        session(service, store=store), TEXTS, concept="rivers", prompt="The {x}", room=0
    )
    assert found.asked == 9, "of two equal texts one is asked about"
    assert len(service.questions()) == 9
    assert found.texts["concept"].tolist() == [0, 2, 2, 0]
    assert found.texts["instruction"].tolist() == [1, 1, 1, 1]
    assert found.texts["fluency"].tolist() == [2, 0, 2, 2]
    assert found.texts["score"].tolist() == pytest.approx([0, 0, 3 / (0.5 + 1 + 0.5), 0])
    assert found.rows["score"].tolist() == pytest.approx([0, 0.75, 0])
    assert found.rows["n"].tolist() == [1, 2, 1]
    # Nobody tells the judge what was done to a text, and what was paid for is not asked again.
    asked = "".join(it["content"] for body in service.questions() for it in body["messages"])
    assert not re.search(r"steer|latent|random|row", asked, re.I)
    again = judge_texts(
        session(service, store=store), TEXTS, concept="rivers", prompt="The {x}", room=0
    )
    assert len(service.questions()) == 9
    assert again.spending["stored"] == 9
    assert again.texts.equals(found.texts)
    told = estimate(TEXTS["text"].tolist(), Price(1.0, 1.0), concept="rivers", prompt="The", room=0)
    assert told.calls == 9
    assert told.dollars is not None


def test_answers_that_cannot_be_read_leave_a_gap(service: LoopbackOpenAI) -> None:
    def reply(body) -> str:
        asked = body["messages"][0]["content"]
        return "It is quite fluent, 2 of 2 I think." if "fluent the text" in asked else "1"

    service.reply = reply
    found = judge_texts(session(service), TEXTS, concept="rivers", prompt="The", room=0)
    assert found.texts["fluency"].isna().all()
    assert found.texts["score"].isna().all(), "no score from two ratings of three"
    assert found.texts["concept"].tolist() == [1, 1, 1, 1]
    assert found.rows["n"].tolist() == [0, 0, 0]
    [problem, *_] = found.problems
    assert "is no rating from 0 to 2" in problem
    # Each was asked for once more, stricter.
    assert sum(len(body["messages"]) > 2 for body in service.questions()) == 3


def test_the_budget_ends_the_questions_and_what_came_is_kept(service: LoopbackOpenAI) -> None:
    service.reply = answer
    found = judge_texts(
        session(service, budget=Budget(calls=4)), TEXTS, concept="rivers", prompt="The {x}", room=0
    )
    assert len(service.questions()) == 4
    assert int(found.texts.drop_duplicates("row").notna().to_numpy().sum()) > 0
    assert any("4 calls" in it and "(5 questions)" in it for it in found.problems)


@pytest.mark.parametrize(
    ("said", "rating"),
    [("0", 0), ("Rating: 2", 2), ("**Rating: 1**", 1), ("[[2]]", 2), ('{"Rating": "1"}', 1)],
)
def test_ratings_that_can_be_read(said: str, rating: int) -> None:
    assert parse_rating(said) == rating


@pytest.mark.parametrize(
    "said", ["", "3", "1.5", "-1", "1 or 2", "two", "Rating:", '{"rating": true}', '{"rating": 3}']
)
def test_ratings_that_cannot(said: str) -> None:
    with pytest.raises(UnreadableAnswer):
        parse_rating(said)


def test_bad_input_costs_a_sentence(service: LoopbackOpenAI) -> None:
    with pytest.raises(ValueError, match="The concept is empty"):
        judge_texts(session(service), TEXTS, concept=" ", prompt="The")
    with pytest.raises(ValueError, match="There are no texts to judge"):
        judge_texts(session(service), TEXTS[:0], concept="rivers", prompt="The")
    with pytest.raises(ValueError, match="400 characters"):
        judge_texts(session(service), TEXTS, concept="x" * 400, prompt="The")
    assert np.isnan(harmonic_mean([1, float("nan"), 2]))
    assert not service.questions()
