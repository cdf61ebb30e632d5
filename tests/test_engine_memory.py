"""The engine on fakes: who is evicted, and what happens when memory runs out."""

import re
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from core.engine import EngineMemoryError
from tests.engine_fakes import Recorder, load, make_engine, names


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_least_recently_used_goes_first(recorder: Recorder) -> None:
    engine = make_engine(recorder, budget=300)
    for name in ("m1", "m2", "m3", "m1", "m4"):
        with engine.use(name):
            pass
    assert names(engine) == ["m4", "m1", "m3"]
    with engine.use("m3"):
        pass
    assert recorder.loads == ["m1", "m2", "m3", "m4"]
    with engine.use("m2"):
        pass
    assert names(engine) == ["m2", "m3", "m4"]


def test_what_is_in_use_is_never_evicted(recorder: Recorder) -> None:
    engine = make_engine(recorder, budget=200)
    with engine.use("m1"), ThreadPoolExecutor(1) as pool:
        pool.submit(load, engine, "m2").result()
        pool.submit(load, engine, "m3").result()
        assert names(engine) == ["m3", "m1"]
        assert {loaded.name: loaded.in_use for loaded in engine.loaded()} == {
            "m1": True,
            "m3": False,
        }
        assert engine.unload() == 100
        assert names(engine) == ["m1"]
        with pytest.raises(ValueError, match="m1 is in use"):
            engine.unload("m1")
    assert engine.unload("m1") == 100
    assert names(engine) == []


def test_no_room_is_refused_with_figures_before_loading(recorder: Recorder) -> None:
    recorder.sizes = {"huge": 5000, "big": 250}
    engine = make_engine(recorder, budget=300)
    with pytest.raises(ValueError, match=r"huge needs 5\.0 kB and the explorer may use 300 B"):
        load(engine, "huge")
    with engine.use("m1"), ThreadPoolExecutor(1) as pool:
        refusal = pool.submit(load, engine, "big").exception()
    assert isinstance(refusal, ValueError)
    assert re.search(r"big needs 250 B; .* 100 B are in use", str(refusal))
    assert recorder.loads == ["m1"]
    load(engine, "big")
    assert names(engine) == ["big"]


def test_out_of_memory_in_a_lease_unloads_what_is_idle_and_says_what_to_do(
    recorder: Recorder,
) -> None:
    engine = make_engine(recorder)
    load(engine, "idle")

    def compute() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with (
        pytest.raises(EngineMemoryError, match="smaller batch") as caught,
        engine.use("m"),
        engine.use("m"),
    ):
        compute()
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert names(engine) == ["m"]
    load(engine, "m")


def test_out_of_memory_frees_the_tensors_of_the_failed_computation(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    tensors = []

    def compute() -> None:
        large = torch.zeros(10)
        tensors.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineMemoryError) as caught, engine.use("m"):
        compute()
    assert caught.value is not None
    assert tensors[0]() is None


def test_out_of_memory_while_loading_is_tried_again_without_idle_objects(
    recorder: Recorder,
) -> None:
    engine = make_engine(recorder)
    load(engine, "idle")
    failures = ["first"]

    def before_load(name: str) -> None:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")

    recorder.before_load = before_load
    load(engine, "m")
    assert names(engine) == ["m"]
    failures.extend(["one", "two"])
    with pytest.raises(EngineMemoryError, match="while loading"):
        load(engine, "n")
    load(engine, "n")
