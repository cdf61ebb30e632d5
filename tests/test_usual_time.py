"""Times that are announced are those that were measured here; what is urgent goes first."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sae_lens import SAE

from core.activations.reading_time import reading_time, remember_pass
from core.engine.fair_lock import FairLock
from core.jobs import JobManager
from core.lease import PlainLease
from core.models import Model
from core.store import Store
from core.urgency import Urgency, sharing, urgency, working
from core.usual_time import in_words, measured, remember_time, usual_seconds


def test_the_median_of_the_last_five_times_by_unit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert usual_seconds(store, "a") is None
    for seconds in (100, 100, 1, 2, 3, 4, 50):
        remember_time(store, "a", seconds, units=10)
    assert usual_seconds(store, "a", units=20) == pytest.approx(6)  # of 1, 2, 3, 4, 50
    assert usual_seconds(store, "b") is None
    remember_time(store, "b", 5, units=0)
    assert usual_seconds(store, "b") is None
    assert usual_seconds(Store(tmp_path), "a", units=10) == pytest.approx(3), "kept"


def test_beside_other_jobs_it_takes_as_many_times_longer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    remember_time(store, "alone", 10)
    assert sharing() == 1, "this test"
    with working(Urgency.LONG):
        assert sharing() == 1, "itself"
        thread = ThreadPoolExecutor(1)
        told = thread.submit(lambda: (sharing(), usual_seconds(store, "alone")))
        assert told.result() == (2, 20), "a page would begin a second"
        inside = thread.submit(_time_of_a_job, store)
        assert inside.result() == 2
    assert usual_seconds(store, "alone") == 10
    assert usual_seconds(store, "beside another") == 4, "of 8, half was the other's"


def _time_of_a_job(store: Store) -> int:
    with working(Urgency.SHORT):
        remember_time(store, "beside another", 8)
        return sharing()


def test_only_work_that_ended_counts_and_not_what_the_store_gave(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="no"), measured(store, "a"):
        raise ValueError("no")
    assert usual_seconds(store, "a") is None
    remember_time(store, "a", 1000)
    with measured(store, "a", partly_stored=True):
        pass
    assert usual_seconds(store, "a") == 1000
    with measured(store, "a"):
        pass
    assert usual_seconds(store, "a") == pytest.approx(500, abs=1)


def test_a_pass_takes_what_the_last_one_took_and_what_no_length_changes(
    tmp_path: Path, tiny_model: Model, tiny_sae: SAE
) -> None:
    store, lease = Store(tmp_path), PlainLease(tiny_model, [tiny_sae])
    (fingerprint,) = lease.sae_fingerprints
    first = reading_time(lease, store=store)
    assert first.fixed > 0
    assert first.a_token > 0
    remember_pass(store, fingerprint, 1_000, 300.0)
    known = reading_time(lease, store=store)
    assert 300 < known.seconds(1_000) < 300 + 2 * known.fixed
    assert known.seconds(10_000) - known.seconds(1_000) == pytest.approx(2_700, rel=0.1)
    remember_pass(store, fingerprint, 1_000, 100.0)  # it went on from an earlier one
    assert reading_time(lease, store=store).a_token == pytest.approx(known.a_token, rel=0.1)
    remember_pass(store, fingerprint, 1_000, 200.0)
    assert reading_time(lease, store=store).a_token < 0.75 * known.a_token


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about a second"),
        (7, "about 7 seconds"),
        (37, "about 40 seconds"),
        (400, "about 7 minutes"),
        (9000, "about 2 hours"),
    ],
)
def test_durations_in_words_stay_within_a_factor_of_two(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_page_goes_before_a_short_job_and_that_before_a_long_one() -> None:
    lock, order = FairLock(), []
    lock.acquire()
    threads = []
    wanted = [Urgency.LONG, Urgency.SHORT, Urgency.PAGE, Urgency.LONG, Urgency.PAGE]
    for number, kind in enumerate(wanted):

        def work(number: int = number, kind: Urgency = kind) -> None:
            with working(kind), lock:
                order.append(number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while len(lock._waiting) <= number:
            time.sleep(0.001)
    assert lock.wanted_lately(60)
    lock.release()
    for thread in threads:
        thread.join(10)
    assert order == [2, 4, 1, 0, 3]


def test_a_page_that_asks_again_at_once_does_not_wait_for_a_long_job() -> None:
    lock, order = FairLock(), []
    lock.acquire()

    def long_work() -> None:
        with working(Urgency.LONG), lock:
            order.append("job")

    thread = threading.Thread(target=long_work)
    thread.start()
    while not lock._waiting:
        time.sleep(0.001)
    lock.release()
    with lock:
        order.append("page")
    thread.join(10)
    assert order == ["page", "job"]


def test_a_long_job_is_not_put_off_for_ever() -> None:
    lock = FairLock()
    lock.acquire()
    got = threading.Event()

    def long_work() -> None:
        with working(Urgency.LONG), lock:
            got.set()

    thread = threading.Thread(target=long_work)
    thread.start()
    while not lock._waiting:
        time.sleep(0.001)
    lock._waiting[0].since -= 60  # as if it had waited for a minute
    late = threading.Thread(target=lambda: (lock.acquire(), time.sleep(0.2), lock.release()))
    late.start()
    while len(lock._waiting) < 2:
        time.sleep(0.001)
    lock.release()
    assert got.wait(5)
    late.join(10)
    thread.join(10)


def test_jobs_know_how_urgent_they_are() -> None:
    found: dict[str, Urgency] = {}
    for name, manager in (("jobs", JobManager()), ("loads", JobManager(background=False))):
        for short in (True, False):
            manager.submit(
                f"{name}{short}",
                "",
                lambda _, key=f"{name} {short}": found.update({key: urgency()}),
                short=short,
            ).wait(10)
    assert found == {
        "jobs True": Urgency.SHORT,
        "jobs False": Urgency.LONG,
        "loads True": Urgency.SHORT,
        "loads False": Urgency.SHORT,
    }
    assert urgency() is Urgency.PAGE


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_a_long_job_leaves_the_processor_to_others_and_a_short_one_does_not() -> None:
    def priority(_: object) -> int:
        with ThreadPoolExecutor(1) as threads:  # as torch begins threads for a product
            return threads.submit(lambda: os.getpriority(os.PRIO_PROCESS, 0)).result()

    here = os.getpriority(os.PRIO_PROCESS, 0)
    jobs = JobManager(yielding=5)
    for short, expected in ((False, here + 5), (True, here)):
        job = jobs.submit(f"priority:{short}", "Priority", priority, short=short)
        job.wait(30)
        assert job.result() == expected
    assert os.getpriority(os.PRIO_PROCESS, 0) == here
