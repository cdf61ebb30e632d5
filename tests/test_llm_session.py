"""Questions to a chat service: patience, budgets, nothing paid for twice, the key nowhere."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.jobs.progress import JobCancelled, Progress
from core.llm import (
    Budget,
    BudgetSpent,
    ChatAnswer,
    ChatEndpoint,
    ChatError,
    ChatRequest,
    ChatSession,
    Price,
    count_tokens,
    estimate_requests,
    price_of,
    run_each,
)
from core.llm.limiter import AdaptiveLimit, retry_after
from core.llm.on_its_way import OnItsWay
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai

PRICE = {"toy": Price(1.0, 10.0)}


@pytest.fixture(autouse=True)
def _no_ambient_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        running.reply = lambda body: f"echo {body['messages'][-1]['content']}"
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def endpoint(service: LoopbackOpenAI, **fields: object) -> ChatEndpoint:
    defaults = {
        "model": "toy",
        "base_url": service.url,
        "api_key": GOOD_KEY,
        "backoff_seconds": 0.02,
    }
    return ChatEndpoint(**{**defaults, **fields})  # type: ignore[arg-type]


def question(text: str, max_tokens: int = 10) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], max_tokens)


def ask(
    session: ChatSession, texts: list[str], *, progress: Progress | None = None
) -> dict[str, ChatAnswer | ChatError]:
    async def one(text: str) -> ChatAnswer | ChatError:
        try:
            return await session.ask(question(text))
        except ChatError as error:
            return error

    return run_each(texts, one, session=session, progress=progress)


def texts_of(answers: dict[str, ChatAnswer | ChatError]) -> list[str]:
    return [answer.text if isinstance(answer, ChatAnswer) else "-" for answer in answers.values()]


def test_answers_come_in_order_and_at_once(service: LoopbackOpenAI) -> None:
    service.delay_seconds = 0.2
    texts = [str(n) for n in range(40)]
    answers = ask(ChatSession(endpoint(service, concurrency=20)), texts)
    assert texts_of(answers) == [f"echo {text}" for text in texts]
    assert 10 <= service.most_at_once <= 20
    assert service.questions()[0]["max_tokens"] == 10


def test_faults_are_outlived(service: LoopbackOpenAI) -> None:
    service.faults = [
        Fault(status=429, retry_after="0.1"),
        Fault(status=429),
        Fault(status=500),
        Fault(cut=True),
        Fault(body=b'{"choices": [{"mess'),
        Fault(body=b"{}"),
        Fault(body=b'{"choices": []}'),
        Fault(body=b'\xff\xfe{"choices"'),
        Fault(status=503),
    ]
    session = ChatSession(endpoint(service, concurrency=4, max_retries=9))
    answers = ask(session, [str(n) for n in range(8)])
    assert texts_of(answers) == [f"echo {n}" for n in range(8)]
    assert session.spending.calls == len(service.requests) == 17


def test_retry_after_holds_everything_back(service: LoopbackOpenAI) -> None:
    service.faults = [Fault(status=429, retry_after="0.6")]
    session = ChatSession(endpoint(service, concurrency=1))
    started = time.monotonic()
    ask(session, ["a", "b"])
    assert time.monotonic() - started >= 0.6
    assert len(service.requests) == 3


@pytest.mark.parametrize("asked", ["3600", "inf"])
def test_a_wait_that_is_too_long_is_a_failure_for_all(asked: str, service: LoopbackOpenAI) -> None:
    """Nobody waits for an hour, those who have not asked yet included."""
    service.faults = [Fault(status=429, retry_after=asked)] * 9
    answers = ask(ChatSession(endpoint(service, concurrency=1)), ["a", "b", "c"])
    assert all("asks to wait" in str(it) and "status 429" in str(it) for it in answers.values())
    assert len(service.requests) == 1


def test_time_outs_are_asked_again_and_counted_as_paid(service: LoopbackOpenAI) -> None:
    service.delay_seconds = 5
    session = ChatSession(endpoint(service, timeout_seconds=0.2, max_retries=1), prices=PRICE)
    (answer,) = ask(session, ["a"]).values()
    assert "in time" in str(answer)
    assert len(service.requests) == 2
    assert session.spending.completion_tokens == 20


def test_a_wrong_key_ends_the_asking_and_is_nowhere(
    service: LoopbackOpenAI, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-wrong-9876543210"
    caplog.set_level(logging.DEBUG)
    wrong = endpoint(service, api_key=secret, concurrency=1)
    answers = ask(ChatSession(wrong, store=store), [str(n) for n in range(5)])
    assert len(service.requests) == 1
    for error in answers.values():
        assert isinstance(error, ChatError)
        assert "OPENAI_API_KEY" in str(error)
        chain: BaseException | None = error
        while chain is not None:
            assert secret not in repr(chain)
            chain = chain.__cause__ or chain.__context__
    ask(ChatSession(endpoint(service), store=store), ["right"])
    store.close()
    for held in (secret, GOOD_KEY):
        assert held not in repr(endpoint(service, api_key=held))
        assert held not in caplog.text
        for path in store.directory.rglob("*"):
            assert path.is_dir() or held.encode() not in path.read_bytes()
    hidden = ChatEndpoint(base_url=f"http://user:{secret}@host/v1?api_key={secret}")
    assert hidden.url == "http://host/v1"
    whole = ChatEndpoint(base_url=" http://host/v1/chat/completions/ ")
    assert whole.url == whole.raw_url == "http://host/v1"


def test_no_key_for_openai_is_said_before_anything_is_sent() -> None:
    (answer,) = ask(ChatSession(ChatEndpoint()), ["a"]).values()
    assert "No key" in str(answer)


def test_used_up_credit_is_not_asked_again(service: LoopbackOpenAI) -> None:
    service.faults = [Fault(status=429, error={"code": "insufficient_quota"})]
    answers = ask(ChatSession(endpoint(service, concurrency=1)), ["a", "b"])
    assert len(service.requests) == 1
    assert all("credit" in str(answer) for answer in answers.values())


def test_models_that_call_the_limit_otherwise(service: LoopbackOpenAI) -> None:
    service.faults = [Fault(status=400, error={"param": "max_tokens"})]
    assert texts_of(ask(ChatSession(endpoint(service)), ["a"])) == ["echo a"]
    assert service.questions()[1]["max_completion_tokens"] == 10
    assert "max_tokens" not in service.questions()[1]


def test_nothing_is_paid_for_twice(service: LoopbackOpenAI, store: Store) -> None:
    texts = [str(n) for n in range(12)]
    first = ask(ChatSession(endpoint(service), store=store), texts[:8])
    again = ChatSession(endpoint(service, api_key="wrong"), store=store)
    assert ask(again, texts[:8]) == first
    assert (again.spending.calls, again.spending.stored) == (0, 8)
    both = [ChatSession(endpoint(service), store=store) for _ in range(2)]
    threads = [threading.Thread(target=ask, args=(session, texts)) for session in both]
    service.delay_seconds = 0.1
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(body["messages"][0]["content"] for body in service.questions()) == Counter(texts)
    assert store.usage().recomputable.entries == 0


def test_another_sample_model_or_setting_is_another_answer(service: LoopbackOpenAI) -> None:
    base, other = endpoint(service), endpoint(service, model="other")
    message = question("a").messages
    keys = {
        question("a").key(base).digest,
        question("a").key(other).digest,
        question("b").key(base).digest,
        question("a", 11).key(base).digest,
        ChatRequest(message, 10, temperature=0.0).key(base).digest,
        ChatRequest(message, 10, top_logprobs=5).key(base).digest,
        ChatRequest(message, 10, sample=1).key(base).digest,
    }
    assert len(keys) == 7
    assert (
        question("a").key(base).digest == question("a").key(endpoint(service, api_key="x")).digest
    )


def test_cancel_keeps_what_is_on_its_way(service: LoopbackOpenAI, store: Store) -> None:
    service.held = threading.Event()
    progress = Progress()

    def cancel_when_asked() -> None:
        deadline = time.monotonic() + 30
        while len(service.requests) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        progress.cancel()

    threading.Thread(target=cancel_when_asked).start()
    with pytest.raises(JobCancelled):
        ask(
            ChatSession(endpoint(service, concurrency=3), store=store),
            [str(n) for n in range(9)],
            progress=progress,
        )
    assert store.usage().paid.entries == 0  # no answer has come yet
    service.held.set()
    deadline = time.monotonic() + 10
    while store.usage().paid.entries < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    assert len(service.requests) == store.usage().paid.entries == 3
    session = ChatSession(endpoint(service), store=store)
    assert "-" not in texts_of(ask(session, [str(n) for n in range(9)]))
    assert session.spending.calls == 6


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [(Budget(calls=5), 5), (Budget(tokens=5 * 110), 5), (Budget(dollars=5 * 200e-6), 5)],
)
def test_budgets_hold_with_many_on_their_way(
    service: LoopbackOpenAI, budget: Budget, allowed: int
) -> None:
    service.delay_seconds = 0.02
    service.reply = lambda body: {
        "content": "x",
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    session = ChatSession(endpoint(service), budget=budget, prices=PRICE)
    # A question of about 100 tokens, as it is billed.
    answers = ask(session, [f"{n:3d}" + "x" * 325 for n in range(20)])
    done = [answer for answer in answers.values() if isinstance(answer, ChatAnswer)]
    assert all(isinstance(a, ChatAnswer | BudgetSpent) for a in answers.values())
    assert len(service.requests) == len(done) == allowed
    assert session.spending.reserved_prompt == session.spending.reserved_completion == 0


def test_a_budget_that_is_set_aside_comes_back(service: LoopbackOpenAI) -> None:
    """Answers are far shorter than they might be: the budget still covers all questions."""
    service.delay_seconds = 0.02
    service.reply = lambda body: {
        "content": "x",
        "usage": {"prompt_tokens": 5, "completion_tokens": 1},
    }
    session = ChatSession(endpoint(service), budget=Budget(tokens=80))
    assert "-" not in texts_of(ask(session, [str(n) for n in range(9)]))
    assert session.spending.tokens == 54


def test_unknown_prices_and_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match="price"):
        ChatSession(ChatEndpoint("nobody-knows"), budget=Budget(dollars=1))
    with pytest.raises(ValueError, match="budget of calls"):
        Budget(calls=-1)
    with pytest.raises(ValueError, match="role"):
        ChatRequest([{"role": "oracle", "content": "?"}], 5)
    with pytest.raises(ValueError, match="max_tokens"):
        question("a", 0)
    assert price_of("toy-2024-07-18", PRICE) == price_of("toy", PRICE) == PRICE["toy"]
    # No price is built in: one that is out of date would break a budget in dollars.
    assert price_of("gpt-4o-mini") is None


def test_estimates_are_sums() -> None:
    requests = [question("word " * 70, 20), question("α" * 35, 30)]
    estimate = estimate_requests(requests, Price(1.0, 10.0))
    assert estimate.calls == 2
    assert estimate.prompt_tokens == sum(map(count_tokens, requests)) == 100 + 5 + 20 + 5
    assert estimate.dollars == pytest.approx((130 * 1 + 50 * 10) / 1e6)
    assert estimate_requests(requests, None).dollars is None


def test_wrong_unicode_is_sent_stored_and_read(service: LoopbackOpenAI, store: Store) -> None:
    service.reply = lambda body: "half \ud83d of a pair"
    session = ChatSession(endpoint(service), store=store)
    (answer,) = ask(session, ["half \udc00 of another"]).values()
    assert isinstance(answer, ChatAnswer)
    assert answer.text == "half ? of a pair"
    assert ChatAnswer.from_json(answer.to_json()) == answer


def test_logprobs_and_refusals_are_kept(service: LoopbackOpenAI, store: Store) -> None:
    tops = [{"token": t, "logprob": p, "bytes": None} for t, p in (("3", -0.1), ("4", -2.5))]
    content = [{**tops[0], "top_logprobs": tops}]
    service.reply = lambda body: {"content": "3", "logprobs": {"content": content, "refusal": None}}
    session = ChatSession(endpoint(service), store=store)
    request = ChatRequest([{"role": "user", "content": "how much?"}], 1, top_logprobs=2)
    for _ in range(2):
        found = run_each([0], lambda _: session.ask(request), session=session)[0]
        assert found.logprobs == ({"3": -0.1, "4": -2.5},)
    assert service.questions()[0]["top_logprobs"] == 2
    service.reply = lambda body: {"refusal": "I would rather not."}
    (answer,) = ask(session, ["x"]).values()
    assert isinstance(answer, ChatAnswer)
    assert (answer.text, answer.refusal) == ("", "I would rather not.")


def test_the_limit_halves_once_a_storm_and_grows_again() -> None:
    limit = AdaptiveLimit(32)
    for _ in range(10):
        limit.busy(entered=time.monotonic() - 5, wait_seconds=0)
    assert limit.limit == 16
    limit.busy(entered=time.monotonic() + 1, wait_seconds=0)
    assert limit.limit == 8
    for _ in range(9):
        limit.succeeded()
    assert 8.9 < limit.limit < 9.1
    for _ in range(2000):
        limit.succeeded()
    assert limit.limit == 32


def test_retry_after_in_all_its_forms() -> None:
    class Error:
        def __init__(self, **headers: str) -> None:
            self.response = type(
                "R", (), {"headers": {k.replace("_", "-"): v for k, v in headers.items()}}
            )

    assert retry_after(Error(retry_after="2.5")) == 2.5
    assert retry_after(Error(retry_after_ms="250")) == 0.25
    assert retry_after(Error(retry_after="-3")) == 0
    assert retry_after(Error(retry_after="soon")) is None
    assert retry_after(Error(retry_after="nan")) is None
    assert retry_after(Error(retry_after="Wed, 21 Oct 2015 07:28:00 GMT")) == 0
    assert retry_after(Error()) is None
    assert retry_after(ValueError()) is None


@pytest.mark.slow
def test_nothing_is_paid_for_twice_after_a_kill(
    service: LoopbackOpenAI, store: Store, tmp_path: Path
) -> None:
    """What was answered before the kill is not asked again; what was on its way is, and said."""
    service.delay_seconds = 0.15
    script = textwrap.dedent(f"""
        from pathlib import Path
        from core.llm import ChatEndpoint, ChatRequest, ChatSession, run_each
        from core.store import Store
        end = ChatEndpoint("toy", {service.url!r}, {GOOD_KEY!r}, concurrency=2)
        session = ChatSession(end, store=Store(Path({str(store.directory)!r})))
        ask = lambda n: session.ask(ChatRequest([{{"role": "user", "content": n}}], 10))
        run_each([str(n) for n in range(40)], ask, session=session)
    """)
    child = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))
    deadline = time.monotonic() + 60
    while len(service.requests) < 9 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = Counter(body["messages"][0]["content"] for body in service.questions())
    service.delay_seconds = 0
    session = ChatSession(endpoint(service), store=store)
    answers = ask(session, [str(n) for n in range(40)])
    assert texts_of(answers) == [f"echo {n}" for n in range(40)]
    after = Counter(body["messages"][0]["content"] for body in service.questions())
    twice = [text for text, count in after.items() if count > 1]
    assert len(twice) <= session.spending.asked_again <= 2
    assert list((store.directory / "asked").iterdir()) == []
    assert max(after.values()) <= 2
    assert len(before) >= 9


def test_a_question_is_noted_before_it_is_sent_and_until_its_answer_is_kept(
    service: LoopbackOpenAI, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    asked = store.directory / "asked"

    def reply(body: dict[str, Any]) -> str:
        noted.append(len(list(asked.iterdir())))
        return "yes"

    put = Store._put

    def keep(self: Store, *args: Any) -> None:
        noted.append(len(list(asked.iterdir())))
        put(self, *args)

    monkeypatch.setattr(Store, "_put", keep)
    service.reply = reply
    session = ChatSession(endpoint(service), store=store)
    ask(session, ["a"])
    assert noted == [1, 1]
    assert list(asked.iterdir()) == []
    # One that failed is not on its way any more either.
    service.faults = [Fault(status=400)] * 20
    ask(session, ["b"])
    assert list(asked.iterdir()) == []
    # What a killed process leaves behind.
    key = question("c").key(endpoint(service))
    OnItsWay(store.directory).sent(key.digest)
    service.faults = []
    assert session.spending.asked_again == 0
    ask(session, ["c"])
    ask(session, ["c"])
    assert session.spending.asked_again == 1
    assert session.spending.figures()["asked_again"] == 1
    assert list(asked.iterdir()) == []
