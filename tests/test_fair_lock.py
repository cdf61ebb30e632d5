"""The lock of a model goes to whoever has waited longest, and to one at a time."""

import threading
import time

import pytest

from core.engine.fair_lock import FairLock


def test_a_task_that_asks_again_at_once_lets_others_in_between() -> None:
    lock, order, stop = FairLock(), [], threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            lock.acquire(waiting=lambda: None)
            order.append("greedy")
            time.sleep(0.005)
            lock.release()

    thread = threading.Thread(target=greedy)
    thread.start()
    while not order:
        time.sleep(0.001)
    for _ in range(5):
        before = len(order)
        lock.acquire(waiting=lambda: None)
        between = len(order) - before
        lock.release()
        # The one lease under way, and one that may have begun before this thread got in line.
        assert between <= 2
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_first_come_first_served() -> None:
    lock, order = FairLock(), []
    lock.acquire()
    threads = []
    for number in range(6):
        thread = threading.Thread(target=lambda number=number: _note(lock, order, number))
        thread.start()
        while len(lock._waiting) <= number:
            time.sleep(0.001)
        threads.append(thread)
    lock.release()
    for thread in threads:
        thread.join(10)
    assert order == list(range(6))


def _note(lock: FairLock, order: list[int], number: int) -> None:
    with lock:
        order.append(number)


def test_reentrant_and_only_its_owner_gives_it_back() -> None:
    lock = FairLock()
    with lock, lock:
        pass
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    lock.acquire()
    failed = []

    def other() -> None:
        try:
            lock.release()
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(10)
    assert failed
    lock.release()


def test_whoever_gives_up_waiting_leaves_the_line() -> None:
    lock = FairLock()
    lock.acquire()
    given_up = threading.Event()

    def impatient() -> None:
        def stop() -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError):
            lock.acquire(waiting=stop)
        given_up.set()

    order: list[int] = []
    first = threading.Thread(target=impatient)
    first.start()
    while not lock._waiting:
        time.sleep(0.001)
    second = threading.Thread(target=lambda: _note(lock, order, 1))
    second.start()
    assert given_up.wait(10)
    lock.release()
    second.join(10)
    assert order == [1]


def test_one_at_a_time() -> None:
    lock, inside, most = FairLock(), [0], [0]

    def work() -> None:
        for _ in range(50):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1]
