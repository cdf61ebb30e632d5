"""What a service refuses is left out, once for all questions; real errors are said as they are."""

import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from core.llm import Budget, ChatAnswer, ChatEndpoint, ChatError, ChatRequest, ChatSession
from core.llm.adapting import Form, merged
from core.llm.run import run_each
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai

FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is it?"},
]


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        running.reply = lambda body: "fine"
        yield running


def session(service: LoopbackOpenAI, **fields: Any) -> ChatSession:
    fields = {"backoff_seconds": 0.01, "max_retries": 2, **fields}
    return ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY, **fields))


def request(number: int, **fields: Any) -> ChatRequest:
    messages = [MESSAGES[0], {"role": "user", "content": f"What is {number}?"}]
    everything = {
        "temperature": 0.0,
        "top_logprobs": 20,
        "response_format": FORM,
        "seed": 1,
        "frequency_penalty": 0.5,
    }
    return ChatRequest(messages, fields.pop("max_tokens", 500), **{**everything, **fields})


def ask(chat: ChatSession, n: int = 1, **fields: Any) -> list[ChatAnswer | ChatError]:
    async def one(number: int) -> ChatAnswer | ChatError:
        try:
            return await chat.ask(request(number, **fields))
        except ChatError as error:
            return error

    return list(run_each(range(n), one, session=chat).values())


def bad(message: Any, status: int = 400, **fields: Any) -> Fault:
    """An error in the form of most services, or a body of its own."""
    body = {"error": {"message": message, **fields}} if isinstance(message, str) else message
    return Fault(status=status, body=json.dumps(body).encode())


def refusing(name: str, fault: Fault) -> Callable[[dict[str, Any]], Fault | None]:
    return lambda body: fault if name in body else None


def system(body: dict[str, Any]) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


REFUSALS = [
    ("temperature", bad("Unsupported value: 'temperature' does not support 0.0 with this model.")),
    ("temperature", bad("`temperature` may only be 1 when thinking is enabled.")),
    ("temperature", bad("That won't do.", param="temperature")),
    ("temperature", bad({"detail": [{"loc": ["body", "temperature"], "msg": "extra"}]}, 422)),
    ("temperature", bad("No.")),
    ("temperature", bad({"message": "Bad Request"}, 422)),
    ("temperature", Fault(status=400, body=b"nope", content_type="text/plain")),
    ("response_format", bad("This response_format type is unavailable now")),
    ("response_format", bad("'json_schema' is not supported, use 'json_object'")),
    ("response_format", bad("Structured outputs are not supported by this model")),
    ("response_format", bad("Failed to parse grammar", 500)),
    ("response_format", bad("Argument not supported on this model")),
    ("response_format", bad("No endpoints found that support the requested parameters.", 404)),
    ("logprobs", bad("This model does not support logprobs.")),
    ("logprobs", bad("You are not allowed to request logprobs from this model", 422)),
    ("logprobs", bad("invalid")),
    ("seed", bad("property 'seed' is unsupported")),
    ("frequency_penalty", bad("presence and frequency penalties are not supported")),
    ("max_tokens", bad("Unsupported parameter: use 'max_completion_tokens' instead.")),
    ("max_tokens", bad("Unknown argument", param="max_tokens")),
    ("max_tokens", bad("huh?")),
]


@pytest.mark.parametrize(("name", "fault"), REFUSALS)
def test_what_is_refused_is_left_out_from_then_on(
    name: str, fault: Fault, service: LoopbackOpenAI
) -> None:
    service.refuse = refusing(name, fault)
    chat = session(service)
    answers = ask(chat, 3)
    assert [answer.text for answer in answers if isinstance(answer, ChatAnswer)] == ["fine"] * 3
    last = service.questions()[-1]
    assert name not in last
    others = {"temperature", "response_format", "logprobs", "seed", "frequency_penalty"} - {name}
    assert others <= set(last)
    if name == "max_tokens":
        assert last["max_completion_tokens"] == 500
    # It is told, in the record and with each answer.
    assert len(chat.adapted) == 1
    assert name.replace("logprobs", "log-prob") in chat.adapted[0].replace("limit", "max_tokens")
    before = len(service.questions())
    ask(chat, 4)
    assert len(service.questions()) == before + 4


@pytest.mark.parametrize(
    "fault",
    [
        bad("System role not supported"),
        bad("Conversation roles must alternate user/assistant/user/assistant/..."),
        bad("Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        bad("Developer instruction is not enabled for this model"),
        bad("Jinja Exception: System role not supported", 500),
        bad("Invalid request"),
    ],
)
def test_a_system_message_is_put_before_the_question(fault: Fault, service: LoopbackOpenAI) -> None:
    service.refuse = lambda body: fault if system(body) else None
    chat = session(service)
    (answer,) = ask(chat)
    assert isinstance(answer, ChatAnswer)
    assert service.questions()[-1]["messages"] == [
        {"role": "user", "content": "Be brief.\n\nWhat is 0?"}
    ]
    assert "system message" in chat.adapted[0]


def test_turns_alternate_where_there_is_no_system_message() -> None:
    turns = [*MESSAGES, {"role": "assistant", "content": "x"}, *MESSAGES]
    assert [it["role"] for it in merged(turns)] == ["user", "assistant", "user"]
    assert "Be brief.\n\nWhat is it?" in merged(turns)[2]["content"]


def test_several_refusals_one_after_the_other(service: LoopbackOpenAI) -> None:
    def refuse(body: dict[str, Any]) -> Fault | None:
        for name in ("temperature", "response_format", "max_tokens"):
            if name in body:
                return bad(f"Unsupported parameter: '{name}' is not supported with this model.")
        return bad("roles must alternate") if system(body) else None

    service.refuse = refuse
    chat = session(service)
    assert isinstance(ask(chat)[0], ChatAnswer)
    assert len(chat.adapted) == 4
    assert len(service.questions()) == 5


def test_several_that_nobody_names(service: LoopbackOpenAI) -> None:
    service.refuse = lambda body: (
        bad("no") if {"temperature", "seed"} & {*body} or system(body) else None
    )
    chat = session(service)
    assert isinstance(ask(chat)[0], ChatAnswer)
    before = len(service.questions())
    assert all(isinstance(it, ChatAnswer) for it in ask(chat, 5))
    assert len(service.questions()) == before + 5


def test_many_at_once_find_it_out_together(service: LoopbackOpenAI) -> None:
    """Those on their way are refused as well, and asked again; only one tries what it may be."""
    service.delay_seconds = 0.05
    service.refuse = refusing("logprobs", bad("no"))
    chat = session(service, concurrency=16)
    answers = ask(chat, 40)
    assert [it.text for it in answers if isinstance(it, ChatAnswer)] == ["fine"] * 40
    asked = service.questions()
    with_it = [body for body in asked if "logprobs" in body]
    assert len(asked) - 40 == len(with_it) <= 16 + 2
    assert all("temperature" in body for body in asked[-20:])


def test_limits_that_are_too_high_are_lowered(service: LoopbackOpenAI) -> None:
    def limited(most: int, fault: Fault) -> Callable[[dict[str, Any]], Fault | None]:
        return lambda body: fault if body.get("max_tokens", 0) > most else None

    for most, message in (
        (4096, "max_tokens is too large: 9000. This model supports at most 4096 completion tokens"),
        (8192, "`max_tokens` must be less than or equal to `8192`"),
        (8192, "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens"),
        (8192, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        (5000, "max_tokens exceeds what is allowed"),
    ):
        service.refuse = limited(most, bad(message))
        chat = session(service)
        assert isinstance(ask(chat, max_tokens=9000)[0], ChatAnswer), message
        sent = service.questions()[-1]["max_tokens"]
        assert most / 2 <= sent <= most
        assert "max_completion_tokens" not in service.questions()[-1]
        before = len(service.questions())
        (answer,) = ask(chat, max_tokens=9000)
        assert isinstance(answer, ChatAnswer)
        assert answer.limit == sent
        assert len(service.questions()) == before + 1


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's maximum"
        " context length is 2048 tokens and your request has 30 input tokens ({limit} > 2018).",
        "This model's maximum context length is 2048 tokens. However, you requested {all}"
        " tokens (30 in the messages, {limit} in the completion). Please reduce the length.",
    ],
)
def test_a_small_context_leaves_room_for_a_shorter_answer(
    message: str, service: LoopbackOpenAI
) -> None:
    def refuse(body: dict[str, Any]) -> Fault | None:
        limit = body["max_tokens"]
        if limit + 30 <= 2048:
            return None
        return bad(message.format(limit=limit, all=limit + 30), code="context_length_exceeded")

    service.refuse = refuse
    chat = session(service)
    (answer,) = ask(chat, max_tokens=4025)
    assert isinstance(answer, ChatAnswer)
    assert 1900 <= service.questions()[-1]["max_tokens"] <= 2018
    assert len(service.questions()) <= 3


def test_fewer_log_probabilities_are_better_than_none(service: LoopbackOpenAI) -> None:
    service.refuse = lambda body: (
        bad("top_logprobs must be at most 5") if body.get("top_logprobs", 0) > 5 else None
    )
    assert isinstance(ask(session(service))[0], ChatAnswer)
    assert service.questions()[-1]["top_logprobs"] == 5


@pytest.mark.parametrize(
    ("fault", "said", "asked"),
    [
        (Fault(status=401), "the key", 1),
        (Fault(status=403), "may use", 1),
        (Fault(status=402), "credit", 1),
        (bad("The model `toy` does not exist", 404, code="model_not_found"), "does not know", 1),
        (bad("Model Not Exist"), "does not know", 1),
        (bad("API key not valid. Please pass a valid API key."), "the key", 1),
        (bad("x", 429, type="insufficient_quota"), "credit", 1),
        (bad("maximum context length is 100 tokens; your prompt has 900 tokens"), "context", 1),
        (Fault(status=500), "failed", 3),
        (Fault(status=529), "failed", 3),
        (Fault(status=413), "shorter examples", 1),
        (Fault(cut=True), "cannot be reached", 3),
        (Fault(status=429), "limits how much", 3),
    ],
)
def test_real_errors_are_not_taken_for_refusals(
    fault: Fault, said: str, asked: int, service: LoopbackOpenAI
) -> None:
    service.refuse = lambda body: fault
    chat = session(service)
    (error,) = ask(chat)
    assert isinstance(error, ChatError)
    assert said in str(error)
    assert "toy` does" not in str(error)
    assert len(service.questions()) == asked
    assert chat.adapted == ()


def test_a_refusal_that_nothing_helps_is_tried_once(service: LoopbackOpenAI) -> None:
    service.refuse = lambda body: bad("bad request")
    chat = session(service)
    (error,) = ask(chat)
    assert "status 400" in str(error)
    tried = len(service.questions())
    assert tried <= 10
    ask(chat, 5)
    assert len(service.questions()) == tried + 5


def test_a_date_to_wait_for_is_waited_for(service: LoopbackOpenAI) -> None:
    service.faults = [Fault(status=429, retry_after=formatdate(time.time() + 2, usegmt=True))]
    started = time.monotonic()
    assert isinstance(ask(session(service))[0], ChatAnswer)
    assert time.monotonic() - started >= 0.9


def test_probes_count_in_the_budget_and_answers_are_kept(
    service: LoopbackOpenAI, tmp_path: Path
) -> None:
    service.refuse = refusing("temperature", bad("no"))
    store = Store(tmp_path / "store")
    endpoint = ChatEndpoint("toy", service.url, GOOD_KEY, backoff_seconds=0.01)
    chat = ChatSession(endpoint, store=store, budget=Budget(calls=50))
    first = ask(chat, 3)
    assert chat.spending.calls == len(service.questions())
    again = ChatSession(endpoint, store=store)
    assert ask(again, 3) == first
    assert again.spending.calls == 0
    # Also who reads them from the store is told how they were asked for.
    assert again.adapted == chat.adapted != ()
    store.close()


def test_a_form_says_what_it_leaves_out() -> None:
    plain = Form()
    endpoint = ChatEndpoint("toy", "http://localhost/v1", "x")
    assert plain.sentences() == ()
    assert plain.arguments(request(1), endpoint)["top_logprobs"] == 20
    bare = plain.less(*plain.changes(request(1)))
    assert set(bare.arguments(request(1), endpoint)) == {
        "model",
        "messages",
        "max_completion_tokens",
    }
    assert len(bare.sentences()) == 7
    assert bare.changes(request(1)) == []
