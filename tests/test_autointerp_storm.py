"""Whole runs through the real client while everything goes wrong, and after a kill."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.autointerp import AutoInterpConfig
from core.autointerp.chat import ChatExplainer, ChatJudge
from core.autointerp.explain import Result, Roles, explain_and_score, first_requests
from core.jobs.progress import JobCancelled, Progress
from core.llm import Budget, ChatEndpoint, ChatSession
from core.settings import REPOSITORY
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai
from tests.stub_examples import stub_materials

PREDICTIONS: list[Any] = [
    "1, 2",
    "None.",
    "1 and 4",
    "99",
    "Well, I think 1 and 2 fit best.",
    "",
    {"content": None},
    {"refusal": "I cannot."},
    "I'm sorry, but I can't help with that.",
    "[1, 2]",
    "１，２",
    "1, \ud83d",
    "0",
    {"content": "1, 2", "usage": None},
]
EXPLANATIONS: list[Any] = [
    "This neuron activates on words.",
    "This neuron activates on \udc00 half of a pair.",
    "",
    {"refusal": "No."},
    "I'm sorry, I can't.",
    {"content": None},
    "Sure! This neuron activates on letters",
]
STORM = [
    Fault(status=429, retry_after="0.05"),
    Fault(status=500),
    Fault(body=b'{"id": "x", "choi'),
    Fault(cut=True),
    Fault(delay_seconds=1.5),
    Fault(status=503),
    Fault(body=b"<html>busy</html>"),
    Fault(status=429),
]


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        running.reply = answer
        yield running


def is_scoring(body: dict[str, Any]) -> bool:
    return "numbered texts" in body["messages"][0]["content"]


def answer(body: dict[str, Any]) -> Any:
    """Of all kinds, the same to the same question."""
    kinds = PREDICTIONS if is_scoring(body) else EXPLANATIONS
    return kinds[sum(map(ord, str(body["messages"]))) % len(kinds)]


def plain(body: dict[str, Any]) -> str:
    return "1, 2" if is_scoring(body) else "This neuron activates on words."


def run(
    service: LoopbackOpenAI,
    n: int,
    *,
    store: Store | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
    kept: dict[int, Result] | None = None,
) -> tuple[dict[int, Result], ChatSession]:
    endpoint = ChatEndpoint(
        "toy",
        service.url,
        GOOD_KEY,
        timeout_seconds=1.0,
        backoff_seconds=0.02,
        max_retries=9,
        concurrency=8,
    )
    session = ChatSession(endpoint, store=store, budget=budget)
    cfg = AutoInterpConfig(list(range(n)), scoring=True)
    roles = Roles(ChatExplainer(session, cfg), ChatJudge(session))
    keep = None if kept is None else kept.__setitem__
    found = explain_and_score(
        stub_materials(n), roles, session=session, on_result=keep, progress=progress
    )
    return found, session


@pytest.mark.slow
def test_no_latent_is_lost_in_a_storm_and_none_paid_for_twice(
    service: LoopbackOpenAI, tmp_path: Path
) -> None:
    service.faults = STORM * 3
    store = Store(tmp_path / "store")
    found, _ = run(service, 60, store=store)
    assert list(found) == list(range(60))
    counts = Counter(result["status"] for result in found.values())
    assert set(counts) == {"scored", "failed"}
    assert counts["scored"] > 10
    assert counts["failed"] > 10
    for result in found.values():
        assert bool(result["error"]) == (result["status"] == "failed")
        assert (result["score"] is None) == (result["status"] == "failed")
        assert (result["numbers"] is None) == (result["status"] == "failed")
        if result["status"] == "failed":
            raw = result["prediction raw"] or result["explanation raw"]
            assert len(raw) == 2  # asked once more, and both answers kept
    service.reply = lambda body: pytest.fail("asked again")
    before = len(service.requests)
    again, session = run(service, 60, store=store)
    assert again == found
    assert len(service.requests) == before
    assert session.spending.calls == 0
    store.close()


def test_a_budget_is_not_exceeded_in_a_storm(service: LoopbackOpenAI) -> None:
    service.faults = STORM * 2
    found, session = run(service, 40, budget=Budget(calls=30))
    assert len(service.requests) == session.spending.calls == 30
    assert {result["status"] for result in found.values()} <= {"scored", "failed", "stopped"}
    assert len(found) == 40
    assert any(result["status"] == "stopped" for result in found.values())


def test_the_estimate_counts_every_first_question(service: LoopbackOpenAI) -> None:
    service.reply = plain
    session = ChatSession(ChatEndpoint("toy", service.url, GOOD_KEY))
    cfg = AutoInterpConfig(list(range(12)), scoring=True)
    roles = Roles(ChatExplainer(session, cfg), ChatJudge(session))
    expected = first_requests(stub_materials(12), roles, explanation_tokens=25)
    _, asked = run(service, 12)
    assert len(expected) == asked.spending.calls == 24


def test_cancel_keeps_what_is_done(service: LoopbackOpenAI, tmp_path: Path) -> None:
    service.reply = plain
    service.delay_seconds = 0.1
    store, progress = Store(tmp_path / "store"), Progress()

    class Stopping(dict[int, Result]):
        def __setitem__(self, latent: int, result: Result) -> None:
            super().__setitem__(latent, result)
            if len(self) == 5:
                progress.cancel()

    kept = Stopping()
    with pytest.raises(JobCancelled):
        run(service, 40, store=store, progress=progress, kept=kept)
    assert 5 <= len(kept) < 40
    asked = len(service.requests)
    service.delay_seconds = 0
    time.sleep(0.5)  # answers on their way are still stored
    found, _ = run(service, 40, store=store)
    assert {result["status"] for result in found.values()} == {"scored"}
    questions = Counter(str(body["messages"]) for body in service.questions())
    assert max(questions.values()) == 1
    assert len(service.requests) == 80 > asked
    store.close()


@pytest.mark.slow
def test_nothing_is_paid_for_twice_after_a_kill(service: LoopbackOpenAI, tmp_path: Path) -> None:
    """A run is killed without warning; the next one asks only what had no answer yet."""
    service.reply = plain
    service.delay_seconds = 0.1
    script = textwrap.dedent(f"""
        from pathlib import Path
        from core.autointerp import AutoInterpConfig
        from core.autointerp.chat import ChatExplainer, ChatJudge
        from core.autointerp.explain import Roles, explain_and_score
        from core.llm import ChatEndpoint, ChatSession
        from core.store import Store
        from tests.stub_examples import stub_materials
        end = ChatEndpoint("toy", {service.url!r}, {GOOD_KEY!r}, concurrency=2)
        session = ChatSession(end, store=Store(Path({str(tmp_path / "store")!r})))
        cfg = AutoInterpConfig(list(range(30)), scoring=True)
        roles = Roles(ChatExplainer(session, cfg), ChatJudge(session))
        explain_and_score(stub_materials(30), roles, session=session)
    """)
    child = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ), cwd=REPOSITORY)
    deadline = time.monotonic() + 240
    while len(service.requests) < 15 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(service.requests) >= 15
    service.delay_seconds = 0
    store = Store(tmp_path / "store")
    found, _ = run(service, 30, store=store)
    assert {result["status"] for result in found.values()} == {"scored"}
    counts = Counter(str(body["messages"]) for body in service.questions())
    assert len(counts) == 60
    # At most the two that were on their way have been asked once more.
    assert sum(counts.values()) <= 62
    store.close()
