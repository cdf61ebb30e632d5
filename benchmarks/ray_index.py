"""One worker against two, on the same text: `python -m benchmarks.ray_index`.

Needs requirements-ray.txt and two free cores: what others took of the machine meanwhile is printed
with each time, and where that is much, the ratio says little. Each worker has one thread of torch,
so that two have twice as much to compute with; weights are loaded before the clock starts.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from core.activations.text_index import Reading
from core.corpus import docs_sample
from core.corpus.load import default_packing, load_token_set
from core.lease import Lease
from core.run.cluster import ClusterOptions
from core.run.handing_out import HandedOut
from core.run.on_ray import RayHands
from core.settings import Settings
from core.shell import Machine

SAE = ("docs-small-res", "blocks.2.hook_resid_pre")
_STRETCH = 65_536


@dataclass(frozen=True, order=True)
class Took:
    """One run."""

    seconds: float
    """Of the clock."""
    here: float
    """Seconds of processors that this process took, which puts together what comes."""
    workers: float
    """Seconds that the workers and Ray took."""
    others: float
    """Share of all processors that others had."""


def main() -> None:
    """Print the seconds of both, and their ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--stretches", type=int, default=8, help="of 65,536 tokens (%(default)s)")
    options.add_argument("--repeats", type=int, default=2, help="the fastest counts (%(default)s)")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(replace(Settings(), cache_dir=Path(folder), device="cpu"))
        lease = machine.engine.lease("docs-small", [SAE])
        with lease.turn() as (model, (sae,)):
            packing = default_packing(model, sae, max_tokens=chosen.stretches * _STRETCH)
            width = int(sae.cfg.d_sae)
        text = load_token_set(docs_sample(), lease.tokenizer, packing)
        reading = Reading("docs-small", (SAE,), (width,), text, machine.store.directory / "passes")
        best: dict[int, Took] = {}
        for n in (1, 2):
            hands = RayHands(ClusterOptions(workers=n, threads=1), machine.settings)
            # Long enough for each to have loaded its weights.
            some = text.rows(0, max(1, text.n_rows // 4))
            _run(machine, lease, hands, replace(reading, token_set=some))
            for _ in range(chosen.repeats):
                took = _run(machine, lease, hands, reading)
                best[n] = min(took, best.get(n, took))
                sys.stdout.write(
                    f"{n} workers: {took.seconds:.1f} s; processors: {took.workers:.1f} s of "
                    f"workers, {took.here:.1f} s here, {took.others:.0%} of all others'\n"
                )
                sys.stdout.flush()
            hands.close()
    one, two = best[1].seconds, best[2].seconds
    sys.stdout.write(
        f"Index of {text.n_tokens:,} tokens, {width:,} latents: 1 worker {one:.1f} s, 2 workers "
        f"{two:.1f} s, {one / two:.2f} times as fast\n"
    )


def _run(machine: Machine, lease: Lease, hands: RayHands, reading: Reading) -> Took:
    began, busy, here, workers = time.monotonic(), _busy(), _used(), _used_by_workers()
    HandedOut(hands, machine.store.directory).statistics(lease, reading)
    seconds = time.monotonic() - began
    here, workers = _used() - here, _used_by_workers() - workers
    others = max(0.0, _busy() - busy - here - workers) / (seconds * (os.cpu_count() or 1))
    return Took(seconds, here, workers, others)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _used(process: psutil.Process | None = None) -> float:
    times = (process or psutil.Process()).cpu_times()
    return float(times.user + times.system)


def _used_by_workers() -> float:
    """Seconds of the processes that this one began and that are still there."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += _used(process)
    return total


if __name__ == "__main__":
    main()
