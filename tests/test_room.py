"""Work that does not fit is refused before it begins; what runs out all the same fails alone."""

import threading
import weakref
from pathlib import Path

import pytest
import torch

from core import device as devices
from core.jobs import JobManager, JobState
from core.memory_limit import MemoryLimit, memory_limit
from core.room import NoRoom, Room
from tests.engine_fakes import Recorder, load, make_engine, names
from tests.test_jobs import PATIENCE, finished

MB = 10**6


def test_what_does_not_fit_is_refused_with_both_figures_and_a_remedy():
    room = Room(free=lambda device: 500 * MB)
    with (
        pytest.raises(NoRoom) as refused,
        room.set_aside(2000 * MB, "A map", remedy="choose narrower SAEs"),
    ):
        pass
    assert str(refused.value) == (
        "A map needs about 2.0 GB of memory on cpu, and 500 MB is free; choose narrower SAEs."
    )
    room.check(500 * MB, "A map", remedy="choose narrower SAEs")


def test_memory_set_aside_is_not_given_twice_nor_taken_off_twice():
    free = [1000 * MB]
    room = Room(free=lambda device: free[0])
    with room.set_aside(600 * MB, "One", remedy="r"):
        with pytest.raises(NoRoom, match=r"400 MB is free beside 600 MB set aside .* has ended"):
            room.check(500 * MB, "Two", remedy="r")
        free[0] = 400 * MB  # the first has allocated what it set aside
        with room.set_aside(350 * MB, "Two", remedy="r"), pytest.raises(NoRoom, match="50 MB is"):
            room.check(100 * MB, "Three", remedy="r")
        room.check(400 * MB, "Two", remedy="r")
        # Another device has memory of its own.
        room.check(400 * MB, "Two", remedy="r", device="cuda:0")
    free[0] = 1000 * MB
    room.check(1000 * MB, "Three", remedy="r")


def test_one_device_has_one_account_by_whatever_name():
    room = Room(free=lambda device: 1000 * MB)
    with room.set_aside(600 * MB, "One", remedy="r", device="cuda"), pytest.raises(NoRoom):
        room.check(500 * MB, "Two", remedy="r", device="cuda:0")


def test_idle_models_make_room_for_work_and_for_other_models(monkeypatch):
    recorder = Recorder()
    engine = make_engine(recorder)
    total = 1000
    used = lambda: sum(it.n_bytes for it in engine.loaded())  # noqa: E731
    monkeypatch.setattr(devices, "memory_free", lambda device: total - used())
    engine.room._free = devices.memory_free
    for name in ("m1", "m2", "m3"):
        load(engine, name)
    assert engine.idle_bytes() == 300
    lease = engine.lease("m3")
    with lease.turn(), lease.room(850, "A map", remedy="choose narrower SAEs"):
        # The oldest go, and no more of them than are needed; what is in use stays.
        assert names(engine) == ["m3"]
    with pytest.raises(NoRoom, match=r"A map needs about 1\.1 kB of memory on cpu, and 1\.0"):
        lease.room(1100, "A map", remedy="choose narrower SAEs").__enter__()
    assert names(engine) == ["m3"]  # nothing went for what does not fit all the same
    recorder.sizes["big"] = 600
    with pytest.raises(NoRoom, match=r"big needs about 1\.2 kB of memory on cpu, and 1\.0 kB is"):
        load(engine, "big")


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate 2.00 TiB for an array"),
    ],
    ids=["torch", "driver", "cublas", "cpu", "numpy"],
)
def test_a_job_that_runs_out_of_memory_fails_alone_and_what_is_idle_goes(error):
    recorder = Recorder()
    engine = make_engine(recorder)
    load(engine, "idle")
    manager = JobManager(max_workers=2, relieve=engine.relieve)
    go, held = threading.Event(), []

    def greedy(progress):
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        raise error

    def patient(progress):
        with engine.use("busy"):
            assert go.wait(PATIENCE)
            return 7

    other = manager.submit("map:b", "Another", patient)
    while "busy" not in names(engine):
        pass
    failed = finished(manager.submit("map:a", "Greedy", greedy))
    assert failed.state is JobState.FAILED
    assert failed.view().error == (
        "There was not enough memory; try a smaller model, SAE or batch."
    )
    assert held[0]() is None
    assert names(engine) == ["busy"]
    go.set()
    assert finished(other).result() == 7
    # The next one runs, and the same one too.
    manager.forget("map:a")
    assert finished(manager.submit("map:a", "Greedy", lambda progress: 1)).result() == 1


@pytest.mark.slow
def test_in_a_lease_the_sentence_says_what_is_free(tmp_path):
    engine = make_engine(Recorder())
    manager = JobManager(relieve=engine.relieve)

    def work(progress):
        with engine.lease("m", progress=progress).turn():
            raise torch.OutOfMemoryError("CUDA out of memory")

    view = finished(manager.submit("map:a", "Greedy", work)).view()
    assert view.error.startswith("Memory on cpu ran out in this task. Everything idle was unloaded")


def test_relief_that_fails_does_not_keep_the_job_running():
    def relieve():
        raise RuntimeError("no")

    manager = JobManager(relieve=relieve)

    def work(progress):
        raise MemoryError

    assert finished(manager.submit("map:a", "Greedy", work)).state is JobState.FAILED


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_a_container_has_what_its_group_may_use(tmp_path):
    membership, mount = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("0::/system.slice/explorer.service\n")
    assert memory_limit(membership, mount) is None
    service = mount / "system.slice" / "explorer.service"
    group(service, memory__max="max", memory__current=10)
    assert memory_limit(membership, mount) is None
    group(mount / "system.slice", memory__max=5000, memory__current=1500)
    (mount / "system.slice" / "memory.stat").write_text("anon 900\ninactive_file 500\nfile 600\n")
    assert memory_limit(membership, mount) == MemoryLimit(total=5000, used=1000)
    group(service, memory__max=3000, memory__current=2500)
    assert memory_limit(membership, mount).free == 500
    # Inside a container the path is that of the host, and the group is at the root.
    membership.write_text("0::/docker/abc\n")
    group(mount, memory__max=2000, memory__current=1900)
    assert memory_limit(membership, mount).free == 100


def test_groups_of_the_first_version(tmp_path):
    membership, mount = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("9:cpu:/x\n4:memory:/x\n1:name=systemd:/y\n0::/\n")
    group(mount / "memory", memory__limit_in_bytes=(1 << 63) - 4096, memory__usage_in_bytes=1)
    assert memory_limit(membership, mount) is None
    group(mount / "memory" / "x", memory__limit_in_bytes=900, memory__usage_in_bytes=700)
    (mount / "memory" / "x" / "memory.stat").write_text("total_inactive_file 300\nodd\n")
    assert memory_limit(membership, mount) == MemoryLimit(total=900, used=400)


def test_free_memory_is_that_of_the_container(monkeypatch):
    monkeypatch.setattr(devices, "memory_limit", lambda: MemoryLimit(2 * MB, MB))
    assert devices.memory_free("cpu") == MB
    host = devices.memory_report()[0]
    assert (host.total, host.free) == (2 * MB, MB)
    monkeypatch.setattr(devices, "memory_limit", lambda: MemoryLimit(1 << 60, 0))
    assert devices.memory_report()[0].total < 1 << 60


def test_what_is_idle_on_a_gpu_is_no_memory_of_the_machine():
    engine = make_engine(Recorder())
    load(engine, "m1")
    engine.room._free = lambda device: 100
    engine._device = "cuda"
    with pytest.raises(NoRoom, match="150 B of memory on cpu, and 100 B is free"):
        engine.room.check(150, "A map", remedy="r")
    assert names(engine) == ["m1"]
    with pytest.raises(NoRoom, match="250 B of memory on cuda:0, and 200 B is free"):
        engine.room.check(250, "A map", remedy="r", device="cuda:0")


def test_a_page_that_runs_out_of_memory_says_so_and_gives_back(monkeypatch):
    from pages.parts import errors

    given: list[bool] = []
    monkeypatch.setattr("core.resources.relieve", lambda: given.append(True))
    said = errors.sentence_for(torch.OutOfMemoryError("CUDA out of memory"))
    assert said == "There was not enough memory; try a smaller model, SAE or batch."
    assert given == [True]
