"""What services send becomes answers, through the real client; nothing thought is an answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.llm import Budget, ChatAnswer, ChatEndpoint, ChatError, ChatRequest, ChatSession, Price
from core.llm.bodies import NotACompletion, body_text
from core.llm.reading import read_body
from core.llm.run import run_each
from core.llm.stored_answer import StoredAnswer
from core.llm.thought import _QUOTES, split_thought
from core.store import JSON, Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai
from tests.raw_answers import (
    ALL,
    ANSWER,
    ANSWERS,
    NO_COMPLETIONS,
    SECRET,
    THOUGHTS,
    USAGE,
    Sent,
    completion,
)

REQUEST = ChatRequest([{"role": "user", "content": "What?"}], 200)
NAMES = [
    *("choices", "message", "content", "text", "delta", "reasoning", "thinking", "type", "error"),
    *("usage", "output", "finish_reason", "logprobs", "tokens", "top_logprobs", "tool_calls"),
    *("index", "refusal", "response", "done", "stop_reason", "total_tokens", "prompt_tokens"),
    *("function", "name", "summary"),
]
MARKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
]


@pytest.fixture(scope="module")
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


def endpoint(service: LoopbackOpenAI, **fields: Any) -> ChatEndpoint:
    fields = {"max_retries": 0, "backoff_seconds": 0.01, **fields}
    return ChatEndpoint("toy", service.url, GOOD_KEY, **fields)


def ask(session: ChatSession, request: ChatRequest = REQUEST) -> ChatAnswer | ChatError:
    async def one(_: int) -> ChatAnswer | ChatError:
        try:
            return await session.ask(request)
        except ChatError as error:
            return error

    return run_each([0], one, session=session)[0]


def test_there_are_enough_bodies() -> None:
    assert len(ALL) >= 60
    assert len({sent.name for sent in ALL}) == len(ALL)


@pytest.mark.parametrize("sent", [*THOUGHTS, *ANSWERS], ids=lambda sent: sent.name)
def test_answers_are_read_through_the_client(
    sent: Sent, service: LoopbackOpenAI, tmp_path: Path
) -> None:
    service.faults = [Fault(body=sent.body, content_type=sent.content_type)]
    store = Store(tmp_path / "store")
    session = ChatSession(endpoint(service), store=store)
    answer = ask(session)
    assert isinstance(answer, ChatAnswer)
    assert answer.text == sent.text
    assert answer.problems == sent.problems
    assert bool(answer.why_unusable(200)) == bool({*answer.problems} - {"no usage"})
    for name, value in sent.fields.items():
        assert getattr(answer, name) == value
    if "no usage" not in sent.problems and "completion_tokens" not in sent.fields:
        assert (session.spending.prompt_tokens, session.spending.completion_tokens) == (100, 40)
    assert session.spending.estimated == ("no usage" in sent.problems)
    # What was thought is shown where it came, and nowhere else.
    assert (SECRET in sent.body.decode("utf-8", "replace")) <= (SECRET in answer.raw)
    assert SECRET not in answer.text + answer.refusal
    again = ChatSession(endpoint(service), store=store)
    assert ask(again) == answer
    assert again.spending.calls == 0
    store.close()


@pytest.mark.parametrize("sent", NO_COMPLETIONS, ids=lambda sent: sent.name)
def test_what_is_no_completion_is_said_in_one_sentence(
    sent: Sent, service: LoopbackOpenAI, tmp_path: Path
) -> None:
    service.faults = [Fault(body=sent.body, content_type=sent.content_type)]
    store = Store(tmp_path / "store")
    session = ChatSession(endpoint(service), store=store)
    error = ask(session)
    assert isinstance(error, ChatError)
    assert sent.failed in str(error)
    assert str(error).count(". ") == 0
    assert ANSWER not in str(error)
    # It may be better next time: nothing is kept.
    assert store.usage().paid.entries == 0
    store.close()


def test_sentences_name_the_limit_and_the_cause() -> None:
    thinking = completion(f"<think>{SECRET}", "length", usage={**USAGE, "completion_tokens": 200})
    cut = StoredAnswer(json.dumps(thinking), 200).answer
    assert cut.why_unusable() == (
        "The model's answer was cut at 200 tokens while it was still thinking; raise the limit "
        "(“Room to think”) or choose a model that does not think."
    )
    full = StoredAnswer(json.dumps(completion("half", "length")), 8000).answer
    assert "cut at 40 of 8,000 allowed tokens before its end" in full.why_unusable()
    tool = completion(None, "tool_calls", tool_calls=[{"function": {"name": "search"}}])
    assert "called a tool (search)" in StoredAnswer(json.dumps(tool), 9).answer.why_unusable()
    for sent in (*THOUGHTS, *ANSWERS):
        assert SECRET not in read_body(body_text(sent.body)).why_unusable(5)


@pytest.mark.parametrize(
    "said",
    [
        "This neuron activates on the token `<think>`",
        "This neuron activates on '</think>' at the end of thoughts",
        '{"explanation": "This neuron activates on <think> and </think> tags"}',
    ],
)
def test_marks_that_an_answer_speaks_of_are_no_thoughts(said: str) -> None:
    """Latents of models that think fire on those marks."""
    for before in ("", "<think>Is it `</think>` or '<think>'?</think>\n"):
        answer = read_body(json.dumps(completion(before + said)))
        if before and said.startswith("{"):
            continue  # the object is not the whole text
        assert (answer.text, answer.problems) == (said, ())
        assert answer.thought == ("Is it `</think>` or '<think>'?" if before else "")


def test_logprobs_are_those_of_the_answer_alone() -> None:
    def token(text: str) -> dict[str, Any]:
        return {"token": text, "logprob": -0.1, "top_logprobs": [{"token": text, "logprob": -0.1}]}

    def read(content: str, tokens: list[str], **message: Any) -> ChatAnswer:
        listed = {"content": [token(it) for it in tokens]}
        return read_body(json.dumps(completion(content, choice={"logprobs": listed}, **message)))

    thoughts = ["<think>", "1 9", "\n2 9\n", "</think>", "\n"]
    lines = ["1", " ", "0", "\n", "2", " ", "3"]
    for found in (
        read("".join([*thoughts, *lines]), [*thoughts, *lines]),
        read("".join(lines), [*thoughts, *lines], reasoning_content="1 9\n2 9\n"),
        read("".join(lines), [*lines, "<|im_end|>"]),
        read("".join(lines), lines),
    ):
        assert "".join(found.tokens).strip().removesuffix("<|im_end|>") == "1 0\n2 3"
        assert found.logprobs[0] == {"1": -0.1}
    assert read("other", lines).tokens == ()
    old = {"tokens": ["4"], "top_logprobs": [{"4": -0.5, "5": float("nan")}]}
    body = json.dumps(completion("4", choice={"logprobs": old}))
    assert read_body(body).logprobs == ({"4": -0.5},)


def test_long_bodies_are_packed_and_stay_the_same() -> None:
    kept = StoredAnswer(json.dumps(completion("word " * 5000)), 9, ("left out",))
    assert len(json.dumps(kept.to_json())) < 2000
    assert StoredAnswer.from_json(kept.to_json()) == kept
    short = StoredAnswer(json.dumps(completion("é\ud83d")), 9)
    assert StoredAnswer.from_json(json.loads(json.dumps(short.to_json()))) == short
    assert short.answer.text == "é?"


def test_answers_of_before_are_still_paid_for(service: LoopbackOpenAI, tmp_path: Path) -> None:
    """An answer as it was stored when only its text was kept."""
    old = {
        "text": f"<think>{SECRET}</think>{ANSWER}",
        "refusal": "",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "logprobs": [],
        "tokens": [],
    }
    store = Store(tmp_path / "store")
    key = REQUEST.key(endpoint(service))
    assert key.version == 1
    assert "response_format" not in key.parameters
    store.put(key, old, JSON, paid=True)
    service.faults = [Fault(status=500)]
    answer = ask(ChatSession(endpoint(service), store=store))
    assert isinstance(answer, ChatAnswer)
    assert (answer.text, answer.thought, answer.raw) == (ANSWER, SECRET, old["text"])
    store.close()


def test_what_is_not_reported_is_estimated_and_said(service: LoopbackOpenAI) -> None:
    prices = {"toy": Price(1.0, 10.0)}
    body = json.dumps(completion("word " * 70, usage=None)).encode()
    service.faults = [Fault(body=body)]
    session = ChatSession(endpoint(service), budget=Budget(dollars=1), prices=prices)
    ask(session, replace(REQUEST, max_tokens=8000))
    assert session.spending.completion_tokens == 100
    assert session.spending.figures()["estimated"] == 1


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(NAMES),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_no_body_crashes_the_reader(value: Any) -> None:
    body = json.dumps(value)
    for text in (body, f"data: {body}\n\ndata: [DONE]", f"{body}\n{body}", body[: len(body) // 2]):
        try:
            answer = StoredAnswer(text, 5).answer
        except NotACompletion:
            continue
        answer.why_unusable()
        assert ChatAnswer.from_json(answer.to_json()) == answer or "nan" in str(answer)
        answer.raw.encode()


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    with pytest.raises(NotACompletion):
        read_body(body_text(content))


@pytest.mark.slow
@settings(max_examples=500)
@given(
    st.sampled_from(MARKS),
    st.text(max_size=30),
    st.text(max_size=30),
    st.text(max_size=30),
    st.sampled_from(["whole", "cut", "opening eaten"]),
    st.sampled_from([mark for pair in MARKS[:7] for mark in pair] + [""]),
)
def test_nothing_thought_is_ever_visible(
    marks: tuple[str, str], before: str, said: str, after: str, how: str, stray: str
) -> None:
    assume(before[-1:] + said[:1] not in _QUOTES)  # a mark in quotation marks is spoken of
    secret = "S3CRET"
    thought = f"{said}{stray if stray != marks[1] else ''}{secret}"
    text = {
        "whole": f"{before}{marks[0]}{thought}{marks[1]}{after}",
        "cut": f"{before}{marks[0]}{thought}",
        "opening eaten": f"{thought}{marks[1]}{after}",
    }[how]
    split = split_thought(text)
    assert secret not in split.visible
    assert secret in split.thought
    body = json.dumps(completion(text, "length" if how == "cut" else "stop"))
    answer = read_body(body)
    assert secret not in answer.text
    if how == "cut":
        assert "thinking" in answer.problems
