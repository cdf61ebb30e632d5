"""The worker process runs functions, survives their worst, and goes when its parent goes."""

import logging
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.jobs.progress import JobCancelled, Progress
from core.worker import WorkerDied, WorkerProcess, function_name
from tests.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 60.0

# --- Run in the worker process ---


def double(array, *, offset=0):
    return array * 2 + offset, os.getpid()


def hold_the_interpreter(marker):
    Path(marker).write_text(str(os.getpid()))
    # One call in C that never releases the interpreter's lock, as numba code does not.
    return sum(range(10**15))


def raise_error(error):
    raise error


class OurError(Exception):
    pass


def raise_ours():
    raise OurError("something of ours")


def die_of(signal_number):
    os.kill(os.getpid(), signal_number)


def leave(code):
    os._exit(code)


def report(progress, steps):
    for step in range(steps + 1):
        progress.check()
        progress.update(step, steps, unit="epochs", message="fitting")
    return steps


def return_a_lambda():
    return lambda: None


def touch(path):
    Path(path).touch()


def fail_to_warm():
    raise KeyError("no warmth")


# --- Run here ---


@pytest.fixture(scope="module")
def worker():
    with WorkerProcess(warm=()) as worker:
        yield worker


def gone(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        # The first thread may be a zombie while others are still dying; only then can it be reaped.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def test_arrays_go_there_and_back(worker):
    array = np.arange(1_000_000, dtype=np.float32)  # more than any pipe buffer holds
    result, pid = worker.run(double, array, offset=1)
    np.testing.assert_array_equal(result, array * 2 + 1)
    assert pid != os.getpid()
    assert worker.run("math:sqrt", 9.0) == 3.0
    assert worker.run(double, array[:1])[1] == pid, "one process for all tasks"


def test_the_worker_itself_loads_nothing_large():
    with WorkerProcess(warm=()) as worker:
        loaded = worker.run("builtins:eval", "set(__import__('sys').modules)")
    assert "core.worker.child" in loaded or "core" in loaded
    assert not {"torch", "streamlit", "pandas", "numpy"} & loaded


@pytest.mark.parametrize(
    "error", [ValueError("k is 0; choose 1 or more."), KeyError("name"), MemoryError("full")]
)
def test_built_in_errors_keep_their_type(worker, error):
    with pytest.raises(type(error)) as caught:
        worker.run(raise_error, error)
    assert str(caught.value) == str(error)
    assert any("raise_error" in note for note in caught.value.__notes__)


def test_other_errors_become_runtime_errors(worker):
    with pytest.raises(RuntimeError, match="OurError: something of ours"):
        worker.run(raise_ours)
    with pytest.raises(RuntimeError, match="UnicodeDecodeError"):
        worker.run(raise_error, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        worker.run("no_such_module:function")
    with pytest.raises(AttributeError, match="no_such_function"):
        worker.run("math:no_such_function")


def test_what_cannot_be_sent_is_an_error_and_the_next_call_works(worker):
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"lambda|pickle"):
        worker.run(return_a_lambda)
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"lambda|pickle"):
        worker.run(double, lambda: None)
    assert worker.run("math:sqrt", 4.0) == 2.0


@pytest.mark.parametrize("odd", ["math", "math:", ":sqrt", "math:a b", lambda: 1, OurError.mro])
def test_functions_without_an_importable_name_are_refused(odd):
    with pytest.raises(ValueError, match="module"):
        function_name(odd)


@pytest.mark.parametrize(
    ("function", "argument", "told"),
    [(die_of, signal.SIGKILL, "memory"), (die_of, signal.SIGABRT, "signal 6"), (leave, 3, "3")],
)
def test_a_dying_worker_is_reported_and_replaced(worker, function, argument, told):
    with pytest.raises(WorkerDied, match=told):
        worker.run(function, argument)
    assert worker.run("math:sqrt", 4.0) == 2.0


def test_a_worker_killed_while_idle_is_replaced(worker):
    _, pid = worker.run(double, np.zeros(1))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), patience=PATIENCE)
    assert worker.run(double, np.zeros(1))[1] != pid


def test_progress_comes_back(worker):
    progress = Progress()
    assert worker.run(report, steps=50, progress=progress) == 50
    view = progress.view()
    assert (view.done, view.total, view.unit, view.message) == (50, 50, "epochs", "fitting")
    assert worker.run("math:sqrt", 4.0, progress=progress) == 2.0


def test_cancelling_kills_compiled_code_and_the_next_call_works(worker, tmp_path):
    progress, marker, outcome = Progress(), tmp_path / "started", []

    def run():
        try:
            worker.run(hold_the_interpreter, str(marker), progress=progress)
        except JobCancelled:
            outcome.append("cancelled")

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: marker.exists() and marker.read_text(), patience=PATIENCE)
    pid = int(marker.read_text())
    waiting, gave_up = Progress(), []

    def wait_for_turn():
        try:
            worker.run("math:sqrt", 4.0, progress=waiting)
        except JobCancelled:
            gave_up.append(True)

    second = threading.Thread(target=wait_for_turn)
    second.start()
    waiting.cancel()
    second.join(PATIENCE)
    assert gave_up, "a call can be cancelled while it waits for its turn"
    assert not gone(pid)
    progress.cancel()
    thread.join(PATIENCE)
    assert outcome == ["cancelled"]
    assert gone(pid)
    assert worker.run("math:sqrt", 4.0) == 2.0


def test_calls_from_several_threads_take_turns(worker):
    results = {}

    def run(number):
        results[number] = worker.run(double, np.full(10, number))[0]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {n: result[0] for n, result in results.items()} == {n: 2 * n for n in range(6)}


def test_closing_ends_a_running_task_and_the_worker(tmp_path):
    worker, marker, outcome = WorkerProcess(warm=()), tmp_path / "started", []

    def run():
        try:
            worker.run(hold_the_interpreter, str(marker))
        except WorkerDied:
            outcome.append("died")

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: marker.exists() and marker.read_text(), patience=PATIENCE)
    worker.close()
    thread.join(PATIENCE)
    assert outcome == ["died"]
    assert gone(int(marker.read_text()))
    with pytest.raises(RuntimeError, match="closed"):
        worker.run("math:sqrt", 4.0)


PARENT = """
import sys
from core.worker import WorkerProcess
worker = WorkerProcess(warm=())
if sys.argv[1] == "busy":
    worker.run("tests.test_worker:hold_the_interpreter", sys.argv[2])
print(worker.run("os:getpid"), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_the_worker_dies_with_its_parent(tmp_path, state):
    marker = tmp_path / "started"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state, str(marker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    if state == "busy":
        wait_until(lambda: marker.exists() and marker.read_text(), patience=PATIENCE)
        pid = int(marker.read_text())
    else:
        pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    try:
        wait_until(lambda: gone(pid), patience=PATIENCE)
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
        parent.communicate()


def test_the_main_script_is_not_run_again(monkeypatch, tmp_path):
    # Streamlit makes the page script __main__; multiprocessing would run it in the child.
    script, marker = tmp_path / "page.py", tmp_path / "ran"
    script.write_text(f"open({str(marker)!r}, 'w').close()\n")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    with WorkerProcess(warm=()) as worker:
        assert worker.run("math:sqrt", 4.0) == 2.0
    assert not marker.exists()


def test_warming_up_imports_and_calls_before_the_first_task(capfd):
    warm = ("colorsys", f"{__name__}:fail_to_warm", "no_such_module")
    with WorkerProcess(warm=warm) as worker:
        assert "colorsys" in worker.run("builtins:eval", "set(__import__('sys').modules)")
    logged = capfd.readouterr().err
    assert "no warmth" in logged
    assert "no_such_module" in logged


def test_an_idle_death_is_logged(caplog):
    with WorkerProcess(warm=()) as worker, caplog.at_level(logging.WARNING):
        pid = worker.run("os:getpid")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(pid), patience=PATIENCE)
        worker.start()
        assert "ended while idle" in caplog.text
