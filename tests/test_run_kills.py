"""Headless runs that are killed: the bits are those of one undisturbed run."""

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, make_index
from core.firings.kept import kept_firings
from core.run import tasks
from core.run.arguments import parser
from core.run.command import main
from core.settings import Settings
from core.shell import Machine
from tests.demo_bundle import write_demo
from tests.headless import begin, shorten, wait_until

RELEASE = ("--release", "docs-small-res")
WORDS = "the mean of an array is the sum of its elements divided by their number ."
_BATCH = 512
"""Tokens of a batch; sixteen make a stretch, which is a file of each SAE."""
pytestmark = pytest.mark.slow


class Undisturbed(NamedTuple):
    """What one process made that nobody killed."""

    demo: Path
    words: tuple[str, ...]
    files: dict[str, bytes]
    indexes: list[dict[str, np.ndarray]]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """In the batches of those processes that are killed."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, _BATCH)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("whole")
    demo = write_demo(folder / "demo")
    rng = np.random.default_rng(0)
    words = WORDS.split()
    lines = [" ".join(rng.choice(words, rng.integers(20, 120))) for _ in range(1500)]
    text = folder / "words.txt"
    text.write_text("\n\n".join(lines))
    given = ("index", *RELEASE, "--text", str(text), "--tokens", "80k", "--yes")
    _run(folder / "cache", demo, *given, "--firings")
    files, indexes = _made(folder / "cache", demo, given)
    assert len(files) >= 9, "several files of each of three SAEs"
    return Undisturbed(demo, given, files, indexes)


def _run(cache: Path, demo: Path, *words: str) -> None:
    settings = Settings(cache_dir=cache, demo_dir=demo, device="cpu")
    assert main(words, machine=lambda: Machine(settings)) == 0


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


def _same(whole: Undisturbed, cache: Path) -> None:
    files, indexes = _made(cache, whole.demo, whole.words)
    assert files == whole.files
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
        run = begin(tmp_path, whole.demo, *words, batch_tokens=_BATCH)
        wait_until(lambda n=n: len(list(tmp_path.glob("firings/*/*.parquet"))) >= n, run)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert kept_firings(tmp_path) == [], "half of it is nobody's answer"
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert len(before) >= 7
    _run(tmp_path, whole.demo, *words)
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    for rest in tmp_path.rglob("*.part"):  # of the kill, if it came while one was written
        rest.unlink()
    _same(whole, tmp_path)


def test_what_cannot_be_is_said(whole, tmp_path, capsys, monkeypatch) -> None:
    machine = Machine(Settings(cache_dir=tmp_path, demo_dir=whole.demo, device="cpu"))

    def said(*words: str) -> str:
        assert main((*whole.words, *words), machine=lambda: machine) == 2
        return capsys.readouterr().err

    assert "--workers and --threads are for --ray" in said("--workers", "2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -r requirements-ray.txt" in said("--ray")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert "an address of Ray's client" in said("--ray", "ray://here:10001")
