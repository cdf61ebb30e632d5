"""Rows handed out in any order, some of them lost: the bits are those of one process."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.activations.parts import PartFile, cut
from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, make_index
from core.corpus.documents import Corpus, Document
from core.firings.kept import kept_firings
from core.firings.make import make_firings
from core.run.handing_out import HandedOut
from core.run.handing_out_saes import HandedOutSaes
from core.run.worker import Worker
from core.sae_quality.result import Quality
from core.sae_quality.run import QualityRequest, run_quality
from core.settings import Settings
from core.shell import Machine
from core.store.dataclass_codec import dataclass_codec
from tests.demo_bundle import write_demo
from tests.headless import shorten

HOOKS = ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre")
pytestmark = pytest.mark.slow
NAMES = tuple(("docs-small-res", hook, "") for hook in HOOKS)


class Here:
    """Hands in this process, which do the last order first, and drop everything after some."""

    def __init__(self, settings: Settings, *, until: int | None = None) -> None:
        self._worker = Worker(settings, self.threads)
        self._until, self.did = until, []

    workers = 2
    threads = 1

    def carry_out(self, orders, first, fits, tell):
        if first is not None:
            problem = fits(self._worker.carry_out(first))
            if problem:
                raise ValueError(problem)
        for number in reversed(range(len(orders))):
            if self._until is not None and len(self.did) >= self._until:
                raise KeyboardInterrupt
            self.did.append(orders[number])
            tell(float(orders[number].tokens))
            yield number, self._worker.carry_out(orders[number])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One process is compared with workers of as many threads: else bits may differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(Here.threads)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch) -> None:
    """Stretches of a few rows."""
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo"))


def _machine(folder: Path, demo: Path) -> Machine:
    return Machine(Settings(cache_dir=folder, demo_dir=demo, device="cpu"))


def _request() -> IndexRequest:
    rng = np.random.default_rng(3)
    words = np.array("the mean of an array along its axis is a sum".split())  # noqa: SIM905
    texts = [" ".join(rng.choice(words, rng.integers(5, 60))) for _ in range(150)]
    corpus = Corpus("words", "digest", lambda: iter([Document("x", text) for text in texts]))
    return IndexRequest("docs-small", NAMES, corpus, 9000)


def _arrays(machine: Machine, request: IndexRequest, readers=None) -> list[dict]:
    lease = machine.engine.lease("docs-small", [it[:2] for it in request.saes])
    found = make_index(lease, machine.store, request, readers=readers)
    return [open_index(machine.store, one.key).to_arrays() for one in found]


def _equal(one: list[dict], other: list[dict]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        for name, array in mine.items():
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_an_index_from_rows_in_any_order(demo, tmp_path, small) -> None:
    request = _request()
    whole = _arrays(_machine(tmp_path / "one", demo), request)
    other = _machine(tmp_path / "two", demo)
    passes = other.store.directory / "passes"
    first = Here(other.settings, until=3)
    with pytest.raises(KeyboardInterrupt):
        _arrays(other, request, HandedOut(first, other.store.directory))
    assert len(list(passes.glob("*.pass"))) == 1, "what came is put together, and kept"
    assert not list(passes.glob("*.rows"))
    second = Here(other.settings)
    _equal(whole, _arrays(other, request, HandedOut(second, other.store.directory)))
    done = {order.given[-1] for order in first.did}
    assert not done & {order.given[-1] for order in second.did}, "no row is read twice"
    assert sum(order.tokens for order in first.did + second.did) > 8000
    assert not list(passes.glob("*.rows")) + list(passes.glob("*.pass"))


def test_parts_that_a_killed_process_left_are_used_if_whole(demo, tmp_path, small) -> None:
    request = _request()
    whole = _arrays(_machine(tmp_path / "one", demo), request)
    other = _machine(tmp_path / "two", demo)
    kept_parts: dict[Path, bytes] = {}
    remove = PartFile.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PartFile,
            "remove",
            lambda self, span: (
                kept_parts.setdefault(self.file(span), self.file(span).read_bytes()),
                remove(self, span),
            ),
        )
        everything = _arrays(
            other,
            request,
            HandedOut(Here(other.settings), other.store.directory),
        )
    _equal(whole, everything)
    third = _machine(tmp_path / "three", demo)
    passes = third.store.directory / "passes"
    passes.mkdir()
    files = sorted(kept_parts)
    assert len(files) >= 6
    for number, file in enumerate(files[:4]):
        data = kept_parts[file]
        (passes / file.name).write_bytes(data[: len(data) // 2] if number == 1 else data)
    clashing = files[2].name.rpartition("-")[0] + f"-{10**6:010d}.rows"
    (passes / clashing).write_bytes(kept_parts[files[2]])
    hands = Here(third.settings)
    _equal(whole, _arrays(third, request, HandedOut(hands, third.store.directory)))
    assert len(hands.did) < len(files), "three of them were not read again"
    assert not list(passes.glob("*.rows"))


def test_every_firing_from_rows_in_any_order(demo, tmp_path, small) -> None:
    request = _request()
    one, two = _machine(tmp_path / "one", demo), _machine(tmp_path / "two", demo)
    lease = one.engine.lease("docs-small", [it[:2] for it in NAMES])
    whole = make_firings(lease, one.store, request)
    for until in (4, None):
        hands = HandedOut(Here(two.settings, until=until), two.store.directory)
        own = two.engine.lease("docs-small", [it[:2] for it in NAMES])
        if until is None:
            found = make_firings(own, two.store, request, readers=hands)
            continue
        with pytest.raises(KeyboardInterrupt):
            make_firings(own, two.store, request, readers=hands)
        assert len(list(two.store.directory.rglob("*.parquet"))) == 8
        assert kept_firings(two.store.directory) == []
    assert len(whole[0].spans) > 5
    for mine, theirs in zip(whole, found, strict=True):
        for name in [*(mine.file(span).name for span in mine.spans), "totals"]:
            assert (mine.folder / name).read_bytes() == (theirs.folder / name).read_bytes()
    _equal(_arrays(one, request), _arrays(two, request))


def test_workers_that_do_other_sums_are_left_out(demo, tmp_path, small) -> None:
    machine, other = _machine(tmp_path / "a", demo), write_demo(tmp_path / "other")
    hands = Here(machine.settings)
    readers = HandedOut(hands, machine.store.directory)

    def refused(change) -> str:
        see = Worker.see
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Worker, "see", lambda self, text: change(see(self, text)))
            with pytest.raises(ValueError) as error:
                _arrays(machine, _request(), readers)
        return str(error.value)

    said = refused(lambda seen: replace(seen, firings="x"))
    assert "computes other activations than" in said
    said = refused(lambda seen: replace(seen, weights=("x",)))
    assert "has other weights under these names" in said
    # The same weights from another folder are the same.
    readers = HandedOut(Here(replace(machine.settings, demo_dir=other)), machine.store.directory)
    _arrays(machine, _request(), readers)


def _quality(machine: Machine, measurers=None) -> list[dict[str, bytes]]:
    """The parts of each entry of the store."""
    request = QualityRequest("docs-small", NAMES, _request().corpus, 1500)
    lease = machine.engine.lease("docs-small", request.names)
    found = run_quality(lease, machine.store, request, measurers=measurers)
    entries = [dataclass_codec(Quality).encode(one.quality) for one in found]
    assert len(entries) == len(NAMES)
    archives = [zipfile.ZipFile(io.BytesIO(entry)) for entry in entries]
    return [{name: it.read(name) for name in it.namelist()} for it in archives]


def test_the_quality_of_saes_measured_in_any_order(demo, tmp_path) -> None:
    whole = _quality(_machine(tmp_path / "one", demo))
    assert whole[0] != whole[1]
    other = _machine(tmp_path / "two", demo)
    folder = other.store.directory
    with pytest.raises(KeyboardInterrupt):
        _quality(other, HandedOutSaes(Here(other.settings, until=1), folder))
    second = Here(other.settings)
    assert _quality(other, HandedOutSaes(second, folder)) == whole
    assert len(second.did) == 1, "what was measured before the interruption is kept"
    third = _machine(tmp_path / "three", demo)
    measure = Worker.measure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "measure", lambda *given: (("x", "y"), measure(*given)[1]))
        with pytest.raises(ValueError, match="A worker has other weights of docs-small-res"):
            _quality(third, HandedOutSaes(Here(third.settings), third.store.directory))


def test_pieces_begin_where_stretches_do() -> None:
    assert cut([(0, 100), (160, 170)], 16, 2) == [
        (0, 32), (32, 64), (64, 96), (96, 100), (160, 170),
    ]  # fmt: skip
