"""What all sessions share outlives whatever a visitor can clear."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from core import resources
from core.jobs import JobState, Progress
from core.settings import Settings
from core.shared import Shared


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings = Settings(cache_dir=tmp_path / "cache", demo_dir=tmp_path, device="cpu")
    monkeypatch.setattr(resources, "settings", lambda: settings)
    resources.reset()
    yield
    resources.reset()


def clear_cache() -> None:
    """What Streamlit does when a browser sends the message `clear_cache`."""
    st.cache_data.clear()
    st.cache_resource.clear()


def test_a_visitor_cannot_wipe_what_all_share(server: None) -> None:
    going_on = threading.Event()

    def work(progress: Progress) -> str:
        while not going_on.wait(0.01):
            progress.check()  # raises once the job is cancelled
        return "done"

    job = resources.jobs().submit("long", "Long work", work)
    resources.recent().put("map:1", "a map")
    doors = (
        *(resources.catalog, resources.engine, resources.store, resources.jobs, resources.loads),
        *(resources.warm_up, resources.recent, resources.published_descriptions),
        *(resources.recent_fits, resources.latest_choices),
    )
    before = [door() for door in doors]
    for _ in range(3):
        clear_cache()
    assert all(door() is it for door, it in zip(doors, before, strict=True))
    assert resources.jobs().get("long") is job
    assert job.state is JobState.RUNNING
    going_on.set()
    assert job.wait(10)
    assert job.result() == "done"
    assert resources.recent().get("map:1") == "a map"
    assert resources.jobs().submit("next", "More", lambda _: 1).wait(10)


def test_the_worker_process_goes_on(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.worker.WorkerProcess.start", lambda self: None)
    worker = resources.worker()
    clear_cache()
    assert resources.worker() is worker
    assert not worker._closed
    resources.reset()
    assert worker._closed
    assert resources.worker() is not worker


def test_no_object_is_a_value_of_the_cache() -> None:
    """Every door of `resources` has a shared object behind it."""
    doors = {
        name
        for name, it in vars(resources).items()
        if hasattr(it, "clear") and getattr(it, "__module__", "") == resources.__name__
    }
    assert doors
    assert {f"_{name}" for name in doors} == {
        name for name, it in vars(resources).items() if isinstance(it, Shared)
    }


def test_one_object_for_all_threads() -> None:
    made: list[object] = []

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    shared, found = Shared(make), list[object]()
    threads = [threading.Thread(target=lambda: found.append(shared())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(it is made[0] for it in found)
