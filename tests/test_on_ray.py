"""Workers on a real Ray cluster of this machine: who comes, who goes, and the bits that remain."""

import importlib.util
import io
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, make_index
from core.firings.kept import kept_firings
from core.firings.make import make_firings
from core.lease import Lease
from core.run import tasks
from core.run.arguments import parser
from core.run.cluster import ClusterOptions
from core.run.command import main
from core.run.on_ray import RayHands
from core.run.orders import Order
from core.run.ray_cluster import places_in
from core.sae_quality.result import Quality
from core.sae_quality.run import QualityRequest, run_quality
from core.settings import Settings
from core.shell import Machine
from core.store.dataclass_codec import dataclass_codec
from tests import ray_small, waiting
from tests.demo_bundle import write_demo
from tests.headless import REPOSITORY, shorten, wait_until
from tests.ray_workers import GO, Meeting

# Ray itself is not imported before `quiet_ray`: it reads its environment once.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="requirements-ray.txt is not installed"
    ),
]

WORDS = "the mean of an array along its axis is a sum".split()  # noqa: SIM905


QUIET = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""All ports on 127.0.0.1, where nobody outside can call; nothing is reported to anyone."""


@pytest.fixture(scope="module", autouse=True)
def startable() -> None:
    """Skips where Ray alone, without anything of ours, cannot start (no ports, no memory)."""
    plain = "import ray; ray.init(num_cpus=1, include_dashboard=False); ray.shutdown()"
    tried = subprocess.run(
        [sys.executable, "-c", plain],
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"Ray does not start on this machine: {tried.stderr[-300:]}")


@pytest.fixture(autouse=True)
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `QUIET` says."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[RayHands]:
    """Two workers of a cluster of this machine."""
    made = RayHands(
        ClusterOptions(workers=2, threads=1), Settings(cache_dir=tmp_path, device="cpu"), Meeting
    )
    yield made
    made.close()


def _answers(hands: RayHands, orders: list[Order], first: Order | None = None, fits=None) -> list:
    done = hands.carry_out(orders, first, fits or (lambda _: None), lambda _: None)
    return [answer for _, answer in done]


def test_who_greets_late_is_greeted_again_by_other_orders(hands, tmp_path) -> None:
    assert len(_answers(hands, [Order("name", ())])) == 1
    waiting.wait_until(lambda: len(Meeting.marks(tmp_path, "begun")) == 2, patience=60)
    (tmp_path / GO).touch()
    seen: list = []
    both = _answers(hands, [Order("meet", (2,))] * 2, Order("name", ()), seen.append)
    assert len(set(both)) == 2
    assert sorted(seen) == sorted(both), "what the second said of the earlier orders is no answer"
    assert hands.memory.keys() == set(both)


def test_one_that_cannot_be_used_is_left_out(hands, tmp_path) -> None:
    (tmp_path / GO).touch()
    came: list[str] = []

    def fits(name: str) -> str | None:
        came.append(name)
        if len(came) == 1:
            return None
        (tmp_path / "refused").touch()
        return "it does other sums"

    did = _answers(hands, [Order("wait_for", ("refused",))] * 3, Order("name", ()), fits)
    assert set(did) == {came[0]}
    assert hands.notes == ["it does other sums"]
    with pytest.raises(ValueError, match="A worker failed: TypeError"):
        _answers(hands, [Order("name", ())], Order("break_down", ()))
    with pytest.raises(RuntimeError, match="A worker failed: TypeError"):
        _answers(hands, [Order("break_down", ())])


def test_a_worker_that_joins_later_is_used(tmp_path) -> None:
    """One order is not done before a second worker is at the other, and there is room for one."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(True, head_node_args={**node, "include_dashboard": False})
    (tmp_path / GO).touch()
    settings = Settings(cache_dir=tmp_path, device="cpu")
    hands = RayHands(ClusterOptions(address=cluster.address, threads=1), settings, Meeting)
    try:
        assert hands.workers == 1

        def join(_: float) -> None:
            if Meeting.marks(tmp_path, "met") and not cluster.worker_nodes:
                cluster.add_node(**node)

        done = hands.carry_out([Order("meet", (2,))] * 2, None, lambda _: None, join)
        assert len({answer for _, answer in done}) == 2
        assert hands.workers == len(hands.memory) == 2
    finally:
        hands.close()
        cluster.shutdown()


_DRIVER = """
import sys
from pathlib import Path
from core.run.cluster import ClusterOptions
from core.run.on_ray import RayHands
from core.run.orders import Order
from core.settings import Settings
from tests.ray_workers import Meeting

settings = Settings(cache_dir=Path(sys.argv[1]), device="cpu")
hands = RayHands(ClusterOptions(workers=1, threads=1), settings, Meeting)
list(hands.carry_out([Order("meet", (2,))], None, lambda _: None, lambda _: None))
"""


def test_a_cluster_ends_with_the_command_that_is_killed(tmp_path) -> None:
    run = subprocess.Popen([sys.executable, "-c", _DRIVER, str(tmp_path)], cwd=REPOSITORY)
    wait_until(lambda: Meeting.marks(tmp_path, "met"), run)
    children = psutil.Process(run.pid).children(recursive=True)
    # Two agents of Ray's, which do no work, look for their parent for up to a minute.
    busy = [it for it in children if it.name() in ("raylet", "gcs_server") or _works(it)]
    assert len(busy) == 3
    listening = {it.laddr.ip for child in children for it in _listening(child)}
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "nobody outside can call"
    run.send_signal(signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(busy, timeout=30)
    assert not [it for it in alive if it.status() != psutil.STATUS_ZOMBIE]


def _works(process: psutil.Process) -> bool:
    try:
        return "ray::Meeting" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _listening(process: psutil.Process) -> list:
    try:
        return [it for it in process.net_connections("tcp") if it.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def test_places_are_counted_on_each_machine() -> None:
    nodes = [{"CPU": 3.0}, {"CPU": 3.0, "GPU": 2.0}, {"memory": 1.0}]
    assert places_in(nodes, threads=2, on_gpu=False) == 2, "not (3 + 3) / 2"
    assert places_in(nodes, threads=2, on_gpu=True) == 2


def test_two_workers_of_which_one_is_killed_give_the_same_bits(
    tmp_path, monkeypatch, capsys
) -> None:
    demo = write_demo(tmp_path / "demo")
    rng = np.random.default_rng(3)
    text = tmp_path / "words.txt"
    lines = [" ".join(rng.choice(WORDS, rng.integers(5, 60))) for _ in range(150)]
    text.write_text("\n\n".join(lines))
    given = ("--release", "docs-small-res", "--text", str(text), "--tokens")
    index, quality = ("index", *given, "9k"), ("quality", *given, "1k")
    shorten(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = Machine(Settings(cache_dir=tmp_path / "one", demo_dir=demo, device="cpu"))
    asked: IndexRequest = tasks.task_of(parser().parse_args(index), one).request
    make_firings(_lease(one, asked), one.store, asked)
    measured: QualityRequest = tasks.task_of(parser().parse_args(quality), one).request
    run_quality(_lease(one, measured), one.store, measured)
    settings = Settings(cache_dir=tmp_path / "two", demo_dir=demo, device="cpu")
    hands = RayHands(ClusterOptions(workers=2, threads=1), settings, ray_small.Small)
    close = hands.close
    try:
        # Both commands use one cluster, which is quicker.
        monkeypatch.setattr(hands, "close", lambda: None)
        monkeypatch.setattr("core.run.on_ray.RayHands", lambda *_: hands)
        workers = ("--yes", "--ray", "--workers", "2", "--threads", "1")
        for words in ((*index, "--firings", *workers), (*quality, *workers)):
            assert main(words, machine=lambda: Machine(settings)) == 0
            said = capsys.readouterr().out
            assert "Shared by 2 workers, each with 1 threads" in said
            assert f"{len(hands.memory)} workers took part" in said
            assert len(hands.memory) >= 2
    finally:
        close()
        torch.set_num_threads(before)
    assert (settings.cache_dir / "killed").is_file()
    two = Machine(settings)
    for mine, theirs in zip(_kept(one, asked), _kept(two, asked), strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    monkeypatch.setattr("core.sae_quality.measure.measure_quality", _Nobody.statistics)
    mine, theirs = _figures(one, measured), _figures(two, measured)
    assert len(mine) == 3
    assert mine == theirs
    one.close()
    two.close()


def _lease(machine: Machine, request: IndexRequest | QualityRequest) -> Lease:
    return machine.engine.lease(request.model, [it[:2] for it in request.saes])


def _figures(machine: Machine, request: QualityRequest) -> list[dict[str, bytes]]:
    """The parts of the entries in the store."""
    found = run_quality(_lease(machine, request), machine.store, request)
    entries = [dataclass_codec(Quality).encode(it.quality) for it in found]
    archives = [zipfile.ZipFile(io.BytesIO(entry)) for entry in entries]
    return [{name: it.read(name) for name in it.namelist()} for it in archives]


def _kept(machine: Machine, request: IndexRequest) -> list[dict]:
    """Files of firings as they lie there, and the arrays of the index as a page finds them."""
    found = []
    for opened, place in zip(
        make_index(_lease(machine, request), machine.store, request, readers=_Nobody()),
        sorted(kept_firings(machine.store.directory), key=lambda it: it.sae),
        strict=True,
    ):
        index = open_index(machine.store, opened.key)
        assert index is not None
        files = [*(place.file(span) for span in place.spans), place.folder / "totals"]
        assert len(files) > 5
        found.append(
            index.to_arrays() | {it.name: np.frombuffer(it.read_bytes(), np.uint8) for it in files}
        )
    return found


class _Nobody:
    def statistics(self, *_: object) -> list:
        raise AssertionError("this was computed before")
