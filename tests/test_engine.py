"""The engine on fakes: what is loaded when, who waits for whom, and how failures end."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engine_fakes import FakeSae, Recorder, load, make_engine, names


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_everything_is_loaded_once_and_saes_before_their_model(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    for _ in range(2):
        with engine.use("m", [("m", "a"), ("m", "b")]) as (model, saes):
            assert model.location == "m"
            assert [sae.sae_id for sae in saes] == ["a", "b"]
    assert recorder.loads == ["a", "b", "m"]
    assert sorted(names(engine)) == ["m", "m / a", "m / b"]


def test_many_threads_cause_one_load_and_all_hear_its_progress(recorder: Recorder) -> None:
    n_threads = 6
    waiting = threading.Barrier(n_threads)
    heard: dict[int, set[str]] = {index: set() for index in range(n_threads)}
    everybody_heard = threading.Event()

    def before_load(name: str) -> None:
        # The load ends only when all the others have heard of it.
        assert everybody_heard.wait(30)

    recorder.before_load = before_load
    engine = make_engine(recorder)

    def task(index: int) -> None:
        def progress(done: int, total: int | None, message: str) -> None:
            heard[index].add(message)
            if all("loading m into memory" in messages for messages in heard.values()):
                everybody_heard.set()

        waiting.wait()
        with engine.use("m", progress=progress):
            pass

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(task, range(n_threads)))
    assert recorder.loads == ["m"]


def test_waiting_threads_share_a_failure_and_the_engine_recovers(recorder: Recorder) -> None:
    waiters_in, attempts = threading.Event(), []

    def before_load(name: str) -> None:
        attempts.append(name)
        assert waiters_in.wait(30)
        raise OSError("the disk is gone")

    recorder.before_load = before_load
    engine = make_engine(recorder)

    def task() -> None:
        with engine.use("m", progress=lambda *_: waiters_in.set() if attempts else None):
            pass

    with ThreadPoolExecutor(4) as pool:
        outcomes = [pool.submit(task) for _ in range(4)]
        assert all(isinstance(outcome.exception(), OSError) for outcome in outcomes)
    assert names(engine) == []
    recorder.before_load = lambda name: None
    load(engine, "m")
    assert names(engine) == ["m"]


class Cancelled(Exception):
    pass


def test_cancelling_ones_load_does_not_fail_the_others(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    other_waits, outcome = threading.Event(), []

    def other_progress(*_: object) -> None:
        other_waits.set()

    def other() -> None:
        with engine.use("m", progress=other_progress):
            outcome.append("loaded")

    thread = threading.Thread(target=other)

    def progress(done: int, total: int | None, message: str) -> None:
        if not thread.ident:
            thread.start()
            assert other_waits.wait(30)
        raise Cancelled

    with pytest.raises(Cancelled), engine.use("m", progress=progress):
        pass
    thread.join(30)
    assert outcome == ["loaded"]
    assert recorder.loads == ["m"]


def test_waiting_for_a_model_in_use_can_be_cancelled(recorder: Recorder) -> None:
    engine = make_engine(recorder)

    def impatient() -> None:
        def progress(done: int, total: int | None, message: str) -> None:
            if message.startswith("waiting for m"):
                raise Cancelled

        with engine.use("m", progress=progress):
            raise AssertionError("two leases at once")

    with ThreadPoolExecutor(1) as pool, engine.use("m"):
        assert isinstance(pool.submit(impatient).exception(), Cancelled)
    assert [loaded.in_use for loaded in engine.loaded()] == [False]


def test_processing_makes_another_model(recorder: Recorder) -> None:
    recorder.wishes = {"raw": {"fold_ln": False}}
    engine = make_engine(recorder)
    with engine.use("m", [("m", "a")]) as (processed, _):
        pass
    with engine.use("m", [("m", "raw")]) as (raw, _):
        assert raw is not processed
        with engine.use("m") as (same, _):
            assert same is raw
    with engine.use("m", [("m", "raw")], processing={}) as (model, _):
        assert model is processed
    assert recorder.loads == ["a", "m", "raw", "m fold_ln"]
    words = r"a of m and raw of m .* differently processed .*\(as transformer_lens does by default "
    with pytest.raises(
        ValueError, match=words + "and with fold_ln|" + words + "and without fold_ln"
    ):
        load(engine, "m", (("m", "a"), ("m", "raw")))


def test_leases_nest_on_one_model_only(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    with engine.use("m") as (outer, _):
        with engine.use("m", [("m", "a")]) as (inner, _):
            assert inner is outer
        with pytest.raises(ValueError, match="already holds m"):
            load(engine, "other")
        with pytest.raises(ValueError, match="other weight processing"):
            load(engine, "m", processing={"fold_ln": False})
    load(engine, "other")


def test_problems_of_entries_and_unfit_saes_are_refused(recorder: Recorder) -> None:
    asked: list[tuple[str, str | None]] = []

    def check_fits(sae: FakeSae, model: Any, *, model_name: str | None) -> None:
        asked.append((sae.sae_id, model_name))
        if sae.sae_id == "wide":
            raise ValueError("the SAE reads 64 numbers")

    engine = make_engine(recorder, check_fits=check_fits)
    with pytest.raises(ValueError, match="the model is broken"):
        load(engine, "broken")
    assert recorder.loads == []
    with pytest.raises(ValueError, match="reads 64 numbers"), engine.use("m", [("m", "wide")]):
        pass
    for _ in range(2):
        with engine.use("m", [("m", "a"), ("other", "b")]):
            pass
    # Asked once a pair; a foreign SAE has to be right about the model's name too.
    assert asked == [("wide", None), ("a", None), ("b", "m")]
    assert not any(loaded.in_use for loaded in engine.loaded())


def test_other_errors_pass_through_unchanged(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    for error in (RuntimeError("shapes differ"), KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, engine.use("m"):
            raise error
        assert caught.value is error
    assert not engine.loaded()[0].in_use


def test_listing_does_not_wait_for_a_lease(recorder: Recorder) -> None:
    engine = make_engine(recorder)
    with engine.use("m", [("m", "a")]), ThreadPoolExecutor(1) as pool:
        listed = pool.submit(engine.loaded).result(30)
    assert {(it.name, it.kind, it.model, it.n_bytes, it.device) for it in listed} == {
        ("m", "model", "m", 100, "cpu"),
        ("m / a", "sae", "m", 100, "cpu"),
    }
    assert all(it.in_use and it.used_at > 0 for it in listed)


@pytest.mark.parametrize(("dtype", "waits"), [("bfloat16", True), ("float32", False)])
def test_only_half_precision_models_wait_for_running_tasks_to_be_built(
    recorder: Recorder, dtype: str, waits: bool
) -> None:
    """Building one changes torch's default dtype, which the running tasks would notice."""
    engine = make_engine(recorder, dtype=dtype)
    about_to_build, building = threading.Event(), threading.Event()
    recorder.before_load = lambda name: building.set() if name == "m2" else None

    def progress(done: int, total: int | None, message: str) -> None:
        if message == "loading m2 into memory":
            about_to_build.set()

    with ThreadPoolExecutor(1) as pool:
        with engine.use("m1"):
            other = pool.submit(load, engine, "m2", progress=progress)
            assert about_to_build.wait(30)
            assert building.wait(0.2 if waits else 30) is not waits
        other.result(30)
    assert building.is_set()
