"""Headless runs that are killed, and several workers: the bits are those of one undisturbed run."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, make_index
from core.firings.kept import kept_firings
from core.run import tasks
from core.run.arguments import parser
from core.settings import Settings
from core.shell import Machine
from tests.demo_bundle import write_demo
from tests.headless import begin, said_by, wait_until

RELEASE = ("--release", "docs-small-res")
WORDS = "the mean of an array is the sum of its elements divided by their number ."
TWO = ("--ray", "--workers", "2", "--threads", "1")
with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="requirements-ray.txt is not installed"
)
pytestmark = pytest.mark.slow


class Undisturbed(NamedTuple):
    """What one process made that nobody killed."""

    demo: Path
    text: str
    cache: Path
    words: tuple[str, ...]
    files: dict[str, bytes]
    indexes: list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("whole")
    demo = write_demo(folder / "demo")
    rng = np.random.default_rng(0)
    words = WORDS.split()
    lines = [" ".join(rng.choice(words, rng.integers(20, 120))) for _ in range(1500)]
    text = folder / "words.txt"
    text.write_text("\n\n".join(lines))
    given = ("index", *RELEASE, "--text", str(text), "--tokens", "300k", "--yes")
    said_by(begin(folder / "cache", demo, *given, "--firings"))
    files, indexes = _made(folder / "cache", demo, given)
    assert len(files) >= 9, "several files of each of three SAEs"
    return Undisturbed(demo, str(text), folder / "cache", given, files, indexes)


def _made(
    cache: Path, demo: Path, words: tuple[str, ...]
) -> tuple[dict[str, bytes], list[dict[str, np.ndarray]]]:
    """Files of firings, and the arrays of the indexes as a page finds them in the store."""
    machine = Machine(Settings(cache_dir=cache, demo_dir=demo, device="cpu"))
    request: IndexRequest = tasks.task_of(parser().parse_args(words), machine).request
    lease = machine.engine.lease(request.model, [it[:2] for it in request.saes])
    indexes = []
    for opened in make_index(lease, machine.store, request, readers=_Nobody()):
        index = open_index(machine.store, opened.key)
        assert index is not None
        indexes.append(index.to_arrays())
    kept = kept_firings(cache)
    files = {
        f"{one.folder.name}/{file.name}": file.read_bytes()
        for one in kept
        for file in one.folder.iterdir()
        if file.suffix == ".parquet" or file.name == "totals"
    }
    machine.close()
    return files, indexes


class _Nobody:
    def statistics(self, *_: object) -> list:
        raise AssertionError("this was computed before")


def _same(whole: Undisturbed, cache: Path, *, firings: bool) -> None:
    files, indexes = _made(cache, whole.demo, whole.words)
    assert files == (whole.files if firings else {})
    for one, other in zip(whole.indexes, indexes, strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert not list(cache.rglob("*.part"))
    assert not list(cache.rglob("*.rows"))
    assert not list(cache.rglob("*.pass"))


def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path) -> None:
    words = (*whole.words, "--firings")
    for n in (1, 7):
        run = begin(tmp_path, whole.demo, *words)
        wait_until(lambda n=n: len(list(tmp_path.glob("firings/*/*.parquet"))) >= n, run)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert kept_firings(tmp_path) == [], "half of it is nobody's answer"
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert len(before) >= 7
    said_by(begin(tmp_path, whole.demo, *words))
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    for rest in tmp_path.rglob("*.part"):  # of the kill, if it came while one was written
        rest.unlink()
    _same(whole, tmp_path, firings=True)


def _workers(run: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = []
    for child in psutil.Process(run.pid).children(recursive=True):
        try:
            if child.name().startswith("ray::Worker") or "ray::Worker" in child.cmdline()[0]:
                found.append(child)
        except (psutil.Error, IndexError):
            continue
    return found


@with_ray
def test_two_workers_of_which_one_is_killed_keep_every_firing(whole, tmp_path) -> None:
    run = begin(tmp_path, whole.demo, *whole.words, "--firings", *TWO)
    wait_until(lambda: list(tmp_path.glob("firings/*/*.parquet")), run)
    lost = _workers(run)[0]
    lost.kill()
    said = said_by(run)
    assert "workers took part" in said
    assert "Shared by 2 workers, each with 1 threads" in said
    _same(whole, tmp_path, firings=True)


@with_ray
def test_two_workers_whose_driver_is_killed_go_on_to_the_same_index(whole, tmp_path) -> None:
    run = begin(tmp_path, whole.demo, *whole.words, *TWO)
    wait_until(lambda: list(tmp_path.glob("passes/*.rows")), run)
    children = psutil.Process(run.pid).children(recursive=True)
    busy = [child for child in children if child.name() in ("raylet", "gcs_server")]
    assert len(busy) == 2
    listening = {it.laddr.ip for child in children for it in _listening(child)}
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "nobody outside can call"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    _, alive = psutil.wait_procs(busy, timeout=20)
    assert not [it for it in alive if it.status() != psutil.STATUS_ZOMBIE]
    done = list(tmp_path.glob("passes/*.rows"))
    assert done
    run = begin(tmp_path, whole.demo, *whole.words, *TWO)
    wait_until(lambda: not done[0].is_file(), run)
    said_by(run)
    _same(whole, tmp_path, firings=False)


def _listening(process: psutil.Process) -> list:
    try:
        return [it for it in process.net_connections("tcp") if it.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@with_ray
def test_a_cluster_is_joined(whole, tmp_path, monkeypatch) -> None:
    script = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    # All of it on 127.0.0.1, where nobody outside can call.
    for name, value in (("ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"), ("AUTH_MODE", "disabled")):
        monkeypatch.setenv(f"RAY_{name}", value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"env": dict(os.environ), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    port = "26379"
    store = "--object-store-memory=80000000"
    head = subprocess.Popen(
        [*script, "--head", f"--port={port}", "--include-dashboard=false", store], **quiet
    )
    run = None
    try:
        wait_until(lambda: _answers(int(port)), head)
        words = (*whole.words, "--firings", "--ray", f"127.0.0.1:{port}", "--threads", "1")
        run = begin(tmp_path, whole.demo, *words)
        said = said_by(run)
        assert "Shared by 1 workers" in said
        assert "1 workers took part" in said
    finally:
        for one in (run, head):
            if one is not None:
                one.terminate()
                one.wait(30)
    _same(whole, tmp_path, firings=True)


def test_what_cannot_be_is_said(whole, tmp_path, capsys, monkeypatch) -> None:
    from core.run.command import main

    machine = Machine(Settings(cache_dir=tmp_path, demo_dir=whole.demo, device="cpu"))

    def said(*words: str) -> str:
        assert main((*whole.words, *words), machine=lambda: machine) == 2
        return capsys.readouterr().err

    assert "--workers and --threads are for --ray" in said("--workers", "2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -r requirements-ray.txt" in said("--ray")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert "an address of Ray's client" in said("--ray", "ray://here:10001")
