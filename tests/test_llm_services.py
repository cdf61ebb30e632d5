"""Services that want to be asked in their own way, and addresses and keys as people copy them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from core.embeddings.endpoint import EmbeddingEndpoint, EmbeddingError
from core.llm import ChatAnswer, ChatEndpoint, ChatError, ChatRequest, ChatSession
from core.llm.run import run_each
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackOpenAI]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with loopback_openai() as running:
        running.reply = lambda body: "fine"
        yield running


def endpoint(service: LoopbackOpenAI, **fields: Any) -> ChatEndpoint:
    given = {"base_url": service.url, "api_key": GOOD_KEY, "backoff_seconds": 0.01}
    return ChatEndpoint("toy", **{**given, **fields})


def session(service: LoopbackOpenAI, **fields: Any) -> ChatSession:
    return ChatSession(endpoint(service, **fields))


def ask(chat: ChatSession, n: int = 1) -> list[ChatAnswer | ChatError]:
    async def one(number: int) -> ChatAnswer | ChatError:
        messages = [{"role": "user", "content": f"What is {number}?"}]
        try:
            return await chat.ask(ChatRequest(messages, 50, temperature=0.5))
        except ChatError as error:
            return error

    return list(run_each(range(n), one, session=chat).values())


def bad(message: str) -> Fault:
    return Fault(status=400, error={"message": message})


@pytest.mark.parametrize("path", ["", "/deployments/toy", "/deployments/toy/chat/completions"])
def test_an_address_with_a_version_is_azures(path: str, service: LoopbackOpenAI) -> None:
    """As its manual shows it, the question and the version included."""
    shown = f"{service.url}{path}?api-version=2024-10-21"
    (answer,) = ask(session(service, base_url=shown))
    assert isinstance(answer, ChatAnswer)
    assert answer.text == "fine"
    assert service.queries == ["api-version=2024-10-21"]
    embedding = EmbeddingEndpoint("toy", shown, GOOD_KEY).client()
    assert embedding.embeddings.create(model="toy", input=["a"]).data
    assert endpoint(service, base_url=shown).url.startswith(service.url)
    assert "2024" not in endpoint(service, base_url=shown).url


@pytest.mark.parametrize(
    "address", ["localhost:1/v1", "http://[", "http://h:99999/v1", "ftp://h/v1", "http://"]
)
def test_addresses_that_are_none_are_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must begin with https"):
        ChatEndpoint(base_url=address)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    (answer,) = ask(ChatSession(ChatEndpoint()))
    assert "must begin with https" in str(answer)
    with pytest.raises(EmbeddingError, match="must begin with https"):
        EmbeddingEndpoint().client()


def test_keys_are_copied_with_blanks_around_and_without_in_them(service: LoopbackOpenAI) -> None:
    (answer,) = ask(session(service, api_key=f"  {GOOD_KEY}\n"))
    assert isinstance(answer, ChatAnswer)
    for key in ("sk-“smart”", "sk-a b", "sk-a\nb"):
        (answer,) = ask(session(service, api_key=key))
        assert "copy it again" in str(answer)
        assert key not in str(answer)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model only support stream mode, please enable the stream parameter.",
        "parameter.enable_thinking must be set to false for non-streaming calls",
    ],
)
def test_what_answers_in_streams_only_is_asked_for_one(
    message: str, service: LoopbackOpenAI
) -> None:
    service.refuse = lambda body: None if body.get("stream") else bad(message)
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("fi", "ne")]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    body = "".join(f"data: {json.dumps(it)}\n\n" for it in events) + "data: [DONE]\n\n"
    chat = session(service)
    service.faults = [bad(message), Fault(body=body.encode(), content_type="text/event-stream")]
    [answer] = ask(chat)
    assert isinstance(answer, ChatAnswer)
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("fine", 7, 2)
    assert [body.get("stream") for body in service.questions()] == [None, True]
    assert chat.adapted == ("The service answers in a stream only: it was asked for one.",)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "content_filter", "message": "The prompt was filtered."}),
        (400, {"message": "It triggered Azure OpenAI's content management policy."}),
        (403, {"code": 403, "message": "It requires moderation. Your input was flagged."}),
        (400, {"code": "data_inspection_failed", "message": "Input data may be amiss."}),
    ],
)
def test_a_filter_that_declines_one_question_leaves_the_others(
    status: int, error: dict[str, Any], service: LoopbackOpenAI
) -> None:
    """It is no wrong key, and nothing is left out of the question in vain."""
    fault = Fault(status=status, error=error)
    service.refuse = lambda body: fault if "What is 1?" in str(body) else None
    answers = ask(session(service, concurrency=1), 4)
    assert [isinstance(it, ChatAnswer) for it in answers] == [True, False, True, True]
    assert "content filter" in str(answers[1])
    assert len(service.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (bad("foo/bar is not a valid model ID"), "check the model's name"),
        (Fault(status=405, body=b"<html>", content_type="text/html"), "at this address"),
        (Fault(status=413, body=b"<html>", content_type="text/html"), "shorter examples"),
    ],
)
def test_what_no_other_form_helps_is_asked_once(
    fault: Fault, said: str, service: LoopbackOpenAI
) -> None:
    service.refuse = lambda body: fault
    [answer] = ask(session(service))
    assert said in str(answer)
    assert "try again later" not in str(answer)
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_address_that_sends_on_elsewhere_is_said(status: int, service: LoopbackOpenAI) -> None:
    """Nobody has chosen that address, and nothing goes there."""
    with loopback_openai() as other:
        service.faults = [Fault(status=status, location=f"{other.url}/chat/completions")] * 3
        answers = ask(session(service, concurrency=1), 3)
        assert not other.requests
    assert all("sends questions on to another address" in str(it) for it in answers)
    assert len(service.requests) == 1


def test_an_answer_that_makes_no_sense_is_paid_for_at_most_twice(service: LoopbackOpenAI) -> None:
    service.faults = [Fault(status=200, body=b'{"result": "fine"}')] * 9
    chat = session(service)
    (error,) = ask(chat)
    assert isinstance(error, ChatError)
    assert len(service.requests) == 2
    assert chat.spending.calls == 2
