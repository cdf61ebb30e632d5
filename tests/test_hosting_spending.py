"""Shares of a day: none is exceeded, by however many threads, processes and restarts."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.engine.listing import LoadedObject
from core.hosting.audit import Audit
from core.hosting.health import Health, health, metrics
from core.hosting.meter import Meter
from core.hosting.people import Person, Role
from core.hosting.policy import ServerKey
from core.hosting.purse import purse
from core.hosting.rights import NotAllowed
from core.hosting.spending import Ledger, QuotaSpent
from core.jobs import JobManager, JobState
from core.llm import BudgetSpent, ChatEndpoint, ChatRequest, ChatSession, run_each
from core.store import Store, StoreError
from tests.loopback_openai import GOOD_KEY, loopback_openai
from tests.test_jobs import PATIENCE, Clock, finished

REPOSITORY = Path(__file__).resolve().parent.parent
NOON = 1_796_040_000.0
ANN = Person("ann@x.org", Role.RUNNER, account="ann@x.org")
KEY = ServerKey(("runner",), dollars_a_day=0.01, tokens_a_day=10_000, prices={"m": (10.0, 20.0)})


def test_use_is_kept_over_restarts_and_ends_at_midnight(tmp_path):
    clock = Clock()
    clock.now = NOON
    ledger = Ledger(Store(tmp_path), clock=clock)
    limits = {"tokens": 100}
    ledger.settle(ledger.reserve("ann", limits, tokens=90), tokens=60)
    again = Ledger(Store(tmp_path), clock=clock)
    assert again.used("ann") == {"tokens": 60}
    with pytest.raises(QuotaSpent, match=r"of today is 100 tokens .* 60 are used .*midnight UTC"):
        again.reserve("ann", limits, tokens=41)
    assert again.used("ann") == {"tokens": 60}
    again.reserve("ann", limits, tokens=40)
    assert again.reserve("bob", limits, tokens=100).account == "bob"
    assert again.accounts() == ["ann", "bob"]
    clock.now += 86_400
    assert again.used("ann") == {}
    again.reserve("ann", limits, tokens=100)


def test_what_ends_after_midnight_is_set_right_on_its_own_day(tmp_path):
    clock = Clock()
    clock.now = NOON
    ledger = Ledger(Store(tmp_path), clock=clock)
    reserved = ledger.reserve("ann", {}, tokens=50)
    day = ledger.today()
    clock.now += 86_400
    ledger.settle(reserved, tokens=20)
    assert ledger.used("ann") == {}
    assert ledger.used("ann", day=day) == {"tokens": 20}


def test_all_or_nothing_of_several_amounts(tmp_path):
    ledger = Ledger(Store(tmp_path))
    with pytest.raises(QuotaSpent, match=r"\$0.0100 of the server's key"):
        ledger.reserve("ann", {"tokens": 100, "dollars": 0.01}, tokens=5, dollars=0.02)
    assert ledger.used("ann") == {}


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_odd_amounts_are_refused(tmp_path, amount):
    with pytest.raises(ValueError, match="reserve a finite amount"):
        Ledger(Store(tmp_path)).reserve("ann", {}, tokens=amount)


def test_threads_and_processes_together_exceed_no_share(tmp_path):
    code = f"""
from core.hosting.spending import Ledger, QuotaSpent
from core.store import Store, StoreError
ledger, got = Ledger(Store({str(tmp_path)!r})), 0
for _ in range(40):
    try:
        ledger.reserve("ann", {{"tokens": 100}}, tokens=3)
        got += 3
    except QuotaSpent:
        pass
print(got)
"""
    options = {"cwd": REPOSITORY, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(2)]
    ledger, got, lock = Ledger(Store(tmp_path)), [], threading.Lock()

    def take():
        for _ in range(15):
            try:
                ledger.reserve("ann", {"tokens": 100}, tokens=3)
            except QuotaSpent:
                continue
            with lock:
                got.append(3)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    taken = sum(got) + sum(int(other.communicate(timeout=120)[0]) for other in others)
    assert taken == ledger.used("ann")["tokens"] == 99


def test_a_killed_server_leaves_what_it_had_set_aside(tmp_path):
    code = f"""
import os, signal
from core.hosting.spending import Ledger
from core.store import Store, StoreError
Ledger(Store({str(tmp_path)!r})).reserve("ann", {{}}, tokens=70)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, timeout=120)
    assert done.returncode == -9
    ledger = Ledger(Store(tmp_path))
    assert ledger.used("ann") == {"tokens": 70}
    with pytest.raises(QuotaSpent):
        ledger.reserve("ann", {"tokens": 100}, tokens=31)


def test_seconds_and_bytes_of_jobs_are_charged_as_they_run(tmp_path):
    clock, ledger = Clock(), Ledger(Store(tmp_path))
    meter = Meter(ledger, tick=0.02, clock=clock)
    manager = JobManager(max_workers=1)

    def work(progress):
        with meter.running("ann", progress, {"compute_seconds": 100}) as count:
            clock.now += 60
            count(1000)
            while ledger.used("ann").get("compute_seconds", 0.0) < 60:
                progress.check()
            clock.now += 50
            while True:
                progress.check()

    job = finished(manager.submit("key", "Title", work))
    assert job.state is JobState.FAILED
    assert "Your share of today is 100 seconds of computations" in job.view().error
    used = ledger.used("ann")
    assert (used["compute_seconds"], used["store_bytes"]) == (110, 1000)


def test_what_must_be_read_from_the_store_may_not_take_long(tmp_path):
    clock = Clock()
    meter = Meter(Ledger(Store(tmp_path)), tick=0.02, clock=clock)

    def work(progress):
        with meter.running("ann", progress, {}, most_seconds=5):
            clock.now += 6
            while True:
                progress.check()

    job = finished(JobManager(max_workers=1).submit("key", "Title", work))
    assert "takes longer than the 5 s that you may have" in job.view().error


def ask(service, payer, n):
    endpoint = ChatEndpoint("m", service.url, GOOD_KEY, max_retries=0, concurrency=4)
    session = ChatSession(endpoint, payer=payer)
    answers: dict = {}

    def request(number):
        return ChatRequest([{"role": "user", "content": f"question {number}"}], 50)

    run_each(
        range(n),
        lambda number: session.ask(request(number)),
        session=session,
        on_result=lambda key, answer: answers.update({key: answer}),
    )
    return answers


def test_questions_with_the_servers_key_stop_at_the_share_of_the_day(tmp_path):
    audit, ledger = Audit(tmp_path / "audit.jsonl"), Ledger(Store(tmp_path / "store"))
    with loopback_openai() as service:
        payer = purse(ANN, KEY, "m", ledger=ledger, audit=audit)
        with pytest.raises(BudgetSpent, match=r"Your share of today is \$0.0100"):
            ask(service, payer, 200)
        sent = len(service.requests)
        assert 0 < sent < 200
        used = Ledger(Store(tmp_path / "store")).used("ann@x.org")
        assert used["dollars"] <= KEY.dollars_a_day
        # A restart grants nothing: a new ledger on the same folder refuses the next question too.
        again = purse(ANN, KEY, "m", ledger=Ledger(Store(tmp_path / "store")), audit=audit)
        with pytest.raises(BudgetSpent):
            ask(service, again, 200)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {line["action"] for line in lines} == {"spend"}
    assert {line["outcome"] for line in lines} == {"done", "refused"}
    told = (tmp_path / "audit.jsonl").read_text()
    assert GOOD_KEY not in told
    assert "question" not in told
    spent = sum(line.get("dollars", 0.0) for line in lines)
    assert spent == pytest.approx(Ledger(Store(tmp_path / "store")).used("ann@x.org")["dollars"])
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("person", "terms", "model", "sentence"),
    [
        (Person("r", Role.READER, "r"), KEY, "m", "Only runners of this server may spend the key"),
        (ANN, ServerKey(), "m", "lets you spend no key of the server's"),
        (ANN, KEY, "dear", "may ask m, not 'dear'; choose one of those"),
        (Person("a", Role.ADMIN, "a"), KEY, "m", "lets you spend no key of the server's"),
    ],
)
def test_the_servers_key_is_for_those_and_that_which_the_policy_names(
    tmp_path, person, terms, model, sentence
):
    ledger, audit = Ledger(Store(tmp_path)), Audit(None)
    with pytest.raises(NotAllowed, match=sentence):
        purse(person, terms, model, ledger=ledger, audit=audit)


def test_figures_for_prometheus_hold_no_names_of_people(tmp_path):
    manager, store = JobManager(), Store(tmp_path)
    finished(manager.submit('map:"x"', "Title of ann", lambda progress: 1, owner="ann@x.org"))
    loaded = LoadedObject('a "b"', "sae", "m", 100, "cpu", in_use=True, used_at=0.0)
    lines = metrics(store, {"compute": manager}, [loaded]).splitlines()
    assert 'sae_explorer_jobs{pool="compute",kind="map",state="done"} 1' in lines
    assert 'sae_explorer_loaded_bytes{name="a \\"b\\"",kind="sae",device="cpu"} 100' in lines
    assert not any("ann" in line for line in lines)
    assert health(store, [manager]) == Health("ok", "ok", 0, 0)


def test_a_store_that_refuses_is_told(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def refuse(*_, **__):
        raise StoreError("full")

    monkeypatch.setattr(store, "put", refuse)
    found = health(store, [JobManager()])
    assert (found.status, found.code) == ("failing", 503)
