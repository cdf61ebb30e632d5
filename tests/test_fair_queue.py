"""Turns go round between people, short work passes long work, and the queue says when."""

import random
import threading
import time
from pathlib import Path

import pytest

from core.asking import check_may_compute, may_compute
from core.jobs import JobManager, JobState, Progress
from core.jobs.queue import UNKNOWN, Running, Turns, Waiting, forecast
from core.store import JSON, Key, Store
from tests.test_jobs import PATIENCE, Clock, Gate, finished


def test_a_small_job_waits_behind_at_most_one_job_of_a_heavy_user():
    """The measured case: six maps of one reader made another wait for all of them."""
    manager, gates, order = JobManager(max_workers=1), [Gate() for _ in range(6)], []
    heavy = [
        manager.submit(f"map:{n}", f"Map {n}", gate, owner="heavy") for n, gate in enumerate(gates)
    ]
    assert gates[0].started.wait(PATIENCE)
    small = manager.submit("sweep:1", "Sweep", lambda progress: order.append("small"), owner="ann")
    assert manager.view(small).place.number == 1
    gates[0].go.set()
    finished(small)
    assert [job.state for job in heavy[2:]] == [JobState.QUEUED] * 4
    for gate in gates:
        gate.go.set()
    for job in heavy:
        finished(job)


def test_short_work_does_not_wait_for_long_work_at_all():
    manager, gates = JobManager(max_workers=2, quick_workers=1), [Gate() for _ in range(4)]
    long = [manager.submit(f"map:{n}", "Map", gate, owner="heavy") for n, gate in enumerate(gates)]
    assert gates[0].started.wait(PATIENCE)
    assert gates[1].started.wait(PATIENCE)
    finished(manager.submit("text:1", "Text", lambda progress: 1, owner="heavy", short=True))
    assert [job.state for job in long[2:]] == [JobState.QUEUED] * 2
    for gate in gates:
        gate.go.set()
    for job in long:
        finished(job)


def test_a_quick_place_is_for_short_work_alone():
    manager, gates = JobManager(max_workers=1, quick_workers=1), [Gate(), Gate()]
    jobs = [manager.submit(f"map:{n}", "Map", gate, owner="x") for n, gate in enumerate(gates)]
    assert gates[0].started.wait(PATIENCE)
    assert not gates[1].started.wait(0.2)
    for gate in gates:
        gate.go.set()
    for job in jobs:
        finished(job)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own."""
    return Store(tmp_path)


def test_what_is_stored_is_opened_while_all_places_are_taken(store):
    key = Key("seen", 1, {})
    store.put(key, "what was computed", JSON)
    manager, gates = JobManager(max_workers=1, quick_workers=1), [Gate(), Gate()]
    begun: list[str] = []

    def open_or_make(progress: Progress) -> str:
        begun.append("looks" if not may_compute() else "may compute")
        return store.get_or_compute(key, lambda: "made anew", JSON)

    first = manager.submit("map:0", "Map", gates[0], owner="x")
    assert gates[0].started.wait(PATIENCE)
    second = manager.submit("map:1", "Map", gates[1], owner="x")
    assert finished(
        manager.submit("i:1", "Index", open_or_make, owner="x", looks=True)
    ).result() == ("what was computed")
    store.clear_recomputable()
    third = manager.submit("i:2", "Index", open_or_make, owner="x", looks=True)
    deadline = time.monotonic() + PATIENCE
    while len(begun) < 2 or third.state is JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # It has looked, and waits for its turn: behind the one that came before it.
    assert (third.state, begun) == (JobState.QUEUED, ["looks", "looks"])
    assert manager.view(third).place.number == 2
    assert store.get(key, JSON) is None
    for gate in gates:
        gate.go.set()
    assert finished(third).result() == "made anew"
    assert begun == ["looks", "looks", "may compute"]
    finished(first), finished(second)


def test_nothing_goes_on_without_what_was_not_there(store):
    """Work that bears refusals would hand out half of its result."""
    manager, gate = JobManager(max_workers=1, quick_workers=1), Gate()

    def bears_refusals(progress: Progress) -> str:
        try:
            return store.get_or_compute(Key("part", 1, {}), lambda: "a part", JSON)
        except ValueError:
            return "without it"

    busy = manager.submit("map:0", "Map", gate, owner="x")
    assert gate.started.wait(PATIENCE)
    job = manager.submit("i:1", "Index", bears_refusals, owner="x", looks=True)
    time.sleep(0.1)
    gate.go.set()
    assert finished(job).result() == "a part"
    finished(busy)


def test_who_is_stopped_while_looking_does_not_wait_again(store):
    manager, gate, looked = JobManager(max_workers=1, quick_workers=1), Gate(), Gate()

    def looks(progress: Progress) -> None:
        looked.started.set()
        looked.go.wait(PATIENCE)
        check_may_compute()

    busy = manager.submit("map:0", "Map", gate, owner="x")
    assert gate.started.wait(PATIENCE)
    job = manager.submit("i:1", "Index", looks, owner="x", looks=True)
    assert looked.started.wait(PATIENCE)
    manager.cancel("i:1")
    looked.go.set()
    assert job.wait(PATIENCE)
    assert job.state is JobState.CANCELLED
    gate.go.set()
    finished(busy)


def test_a_job_does_not_only_look_where_a_place_is_free():
    manager = JobManager(max_workers=1, quick_workers=1)
    assert finished(manager.submit("i:1", "Index", lambda _: may_compute(), looks=True)).result()


def test_turns_go_round_and_short_work_of_one_account_goes_first():
    turns, order = Turns(), []
    waiting = [
        *(Waiting(n, "heavy") for n in range(1, 6)),
        Waiting(6, "heavy", short=True),
        Waiting(7, "ann"),
        Waiting(8, "bob"),
        Waiting(9, "ann"),
    ]
    while waiting:
        job = turns.next(waiting, [], short_only=False)
        waiting.remove(job)
        turns.took(job.account)
        order.append(job.id)
    assert order == [6, 7, 8, 1, 9, 2, 3, 4, 5]


def test_who_runs_least_comes_first():
    running = [Running("ann", quick=False), Running("bob", quick=True)]
    waiting = [Waiting(1, "ann"), Waiting(2, "bob"), Waiting(3, "cid")]
    assert Turns().next(waiting, running, short_only=False).account == "cid"


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_for_more_than_one_job_of_each_other(seed):
    """Brute force with one place: while somebody waits, each other has one turn at most."""
    draw = random.Random(seed)
    turns, waiting, number = Turns(), [], 0
    since: dict[str, list[str]] = {}
    for _ in range(300):
        for account in "abcd":
            if draw.random() < 0.4:
                number += 1
                waiting.append(Waiting(number, account, short=draw.random() < 0.3))
                since.setdefault(account, [])
        job = turns.next(waiting, [], short_only=False)
        if job is None:
            continue
        waiting.remove(job)
        turns.took(job.account)
        for account, seen in since.items():
            if account != job.account:
                seen.append(job.account)
                assert len(seen) == len(set(seen)), (account, seen)
        since.pop(job.account)
        if any(it.account == job.account for it in waiting):
            since[job.account] = []


def test_the_queue_says_when():
    waiting = [
        Waiting(1, "heavy", seconds=100),
        Waiting(2, "heavy", seconds=100),
        Waiting(3, "ann", seconds=10),
    ]
    running = [Running("heavy", quick=False, seconds_left=40)]
    places = forecast(waiting, running, Turns({"heavy": 1}, 1), general=1, quick=0)
    assert {n: (it.number, it.seconds) for n, it in places.items()} == {
        3: (1, 40.0),
        1: (2, 50.0),
        2: (3, 150.0),
    }
    unknown = [Running("heavy", quick=False)]
    places = forecast(waiting, unknown, Turns({"heavy": 1}, 1), general=1, quick=0)
    assert [places[3].number, places[3].seconds] == [1, None]
    assert UNKNOWN > 1e12


def test_the_expected_start_is_learnt_from_jobs_of_the_same_kind():
    wall = Clock()
    manager, gate = JobManager(max_workers=1, wall_clock=wall), Gate()

    def work(progress):
        wall.now += 30

    finished(manager.submit("map:1", "Map", work))
    running = manager.submit("map:2", "Map", gate)
    assert gate.started.wait(PATIENCE)
    waiting = manager.submit("map:3", "Map", lambda progress: None)
    wall.now += 10
    place = manager.view(waiting).place
    assert (place.number, place.seconds) == (1, 20.0)
    assert manager.view(running).place is None
    gate.go.set()
    finished(waiting)


def test_a_job_that_several_want_goes_on_until_nobody_wants_it():
    manager, gate = JobManager(max_workers=1), Gate("done")
    job = manager.submit("key", "Title", gate, owner="ann", account="ann")
    manager.submit("key", "Title", pytest.fail, owner="bob", account="bob")
    assert gate.started.wait(PATIENCE)
    assert manager.cancel("key", owner="ann")
    view = job.view()
    assert (view.owners, view.account, view.cancelling) == (("bob",), "bob", False)
    assert manager.cancel("key", owner="bob")
    assert finished(job).state is JobState.CANCELLED


def test_a_reason_makes_a_stopped_job_a_failed_one():
    manager, gate = JobManager(max_workers=1), Gate()
    job = manager.submit("key", "Title", gate)
    assert gate.started.wait(PATIENCE)
    job.progress.cancel("Your share of today is used up.")
    assert finished(job).state is JobState.FAILED
    assert job.view().error == "Your share of today is used up."


def test_draining_refuses_what_is_new_and_ends_what_runs():
    manager, gate = JobManager(max_workers=1), Gate("kept")
    job = manager.submit("key", "Title", gate)
    assert gate.started.wait(PATIENCE)
    manager.drain("this server is about to be restarted.")
    assert manager.draining
    with pytest.raises(RuntimeError, match="Other cannot start: this server is about"):
        manager.submit("other", "Other", pytest.fail)
    assert manager.submit("key", "Title", pytest.fail) is job
    assert not manager.wait_all(0.0)
    gate.go.set()
    assert manager.wait_all(PATIENCE)
    assert job.result() == "kept"
    manager.go_on()
    finished(manager.submit("other", "Other", lambda progress: None))


def test_many_people_at_once_lose_no_job():
    manager, done = JobManager(max_workers=3, quick_workers=1), []
    lock = threading.Lock()

    def work(name):
        def run(progress):
            with lock:
                done.append(name)

        return run

    def person(who):
        for n in range(25):
            key = f"k:{who}:{n}"
            manager.submit(key, key, work(key), owner=who, short=n % 3 == 0)

    threads = [threading.Thread(target=person, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert manager.wait_all(PATIENCE)
    assert len(done) == len(set(done)) == 200
