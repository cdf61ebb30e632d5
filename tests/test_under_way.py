"""Jobs of a server that ended are offered to the next one, on whatever way it ended."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

from core.jobs import JobManager, JobState
from core.jobs.under_way import KEPT_SECONDS, UnderWay
from core.settings import REPOSITORY
from core.store import JSON, Store
from tests.test_jobs import PATIENCE, Clock, finished


def slow(progress):
    while True:
        progress.update(3, 10)
        time.sleep(0.005)


def servers(folder, clock=time.time):
    manager, store = JobManager(), Store(folder)
    return manager, UnderWay(store, manager, tick=0.02, clock=clock)


def titles(list_of_jobs):
    return [it.title for it in list_of_jobs.interrupted()]


def until(met):
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_stopped_server_cuts_off_is_offered_and_what_ends_is_not(tmp_path):
    manager, mine = servers(tmp_path)
    mine.start()
    other = Store(tmp_path)
    _, next_one = servers(tmp_path)
    go = threading.Event()
    job = manager.submit("map:a", "A map", slow, owner="ann@x.org", link="/map?x=1")
    ending = manager.submit("index:b", "An index", lambda progress: go.wait(PATIENCE))
    waiting = manager.submit("index:c", "In the queue", slow, owner="bob@x.org")
    manager.submit("text:d", "Short", slow, short=True)
    stopped = manager.submit("index:e", "Cancelled", slow)
    manager.cancel("index:e")
    until(lambda: job.view().fraction)
    mine.look()
    assert titles(next_one) == []  # the first server lives
    mine.freeze()
    go.set()
    assert finished(ending).state is JobState.DONE
    manager.shutdown(timeout=PATIENCE)
    mine.close()
    assert {job.state, waiting.state, stopped.state} == {JobState.CANCELLED}
    found = {it.title: it for it in next_one.interrupted()}
    assert set(found) == {"A map", "In the queue"}
    assert (found["A map"].link, found["A map"].owners) == ("/map?x=1", ("ann@x.org",))
    assert found["A map"].fraction == 0.3
    other.close()


def test_asked_for_again_or_dismissed_it_is_no_longer_offered(tmp_path):
    manager, mine = servers(tmp_path)
    mine.start()
    for number in range(3):
        manager.submit(f"map:{number}", f"Map {number}", slow)
    mine.freeze()
    manager.shutdown(timeout=PATIENCE)
    mine.close()
    manager, mine = servers(tmp_path)
    assert len(titles(mine)) == 3
    mine.forget("map:1")
    assert sorted(titles(mine)) == ["Map 0", "Map 2"]
    finished(manager.submit("map:0", "Map 0", lambda progress: 1))
    assert titles(mine) == ["Map 2"]
    mine.look()
    _, third = servers(tmp_path)
    assert titles(third) == ["Map 2"]


def test_a_killed_server_leaves_its_list(tmp_path):
    code = textwrap.dedent(f"""
        import time
        from core.jobs import JobManager
        from core.jobs.under_way import UnderWay
        from core.store import Store
        manager = JobManager()
        def slow(progress):
            while True:
                progress.update(3, 10)
                time.sleep(0.01)
        jobs = UnderWay(Store({str(tmp_path)!r}), manager, tick=0.02)
        jobs.start()
        manager.submit("map:a", "A map", slow, link="/map")
        time.sleep(0.3)
        jobs.look()
        print("ready", flush=True)
        time.sleep(100)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    _, mine = servers(tmp_path)
    assert titles(mine) == []
    child.send_signal(signal.SIGKILL)
    child.wait(PATIENCE)
    child.stdout.close()
    assert titles(mine) == ["A map"]


def test_old_and_foreign_entries_are_left_out(tmp_path):
    clock = Clock()
    clock.now = 1_796_040_000.0
    manager, mine = servers(tmp_path, clock)
    manager.submit("map:a", "A map", slow)
    mine.freeze()
    manager.shutdown(timeout=PATIENCE)
    mine.close()
    _, later = servers(tmp_path, clock)
    assert titles(later) == ["A map"]
    clock.now += KEPT_SECONDS + 1
    assert titles(later) == []
    clock.now -= KEPT_SECONDS
    from core.jobs import under_way

    store = Store(tmp_path)
    lists = store.get(under_way._KEY, JSON, paid=True)
    lists |= {"../../x": [], "0" * 32: [{"title": 1}, 7, None], "1" * 32: "none"}
    store.put(under_way._KEY, lists, JSON, paid=True)
    assert titles(later) == ["A map"]
