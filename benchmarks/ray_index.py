"""One worker against two, on the same text: `python -m benchmarks.ray_index`.

Needs requirements-ray.txt and two cores. Each worker has one thread of torch, so that two have
twice as much to compute with; all have loaded their weights before the clock starts.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
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
        seconds: dict[int, float] = {1: np.inf, 2: np.inf}
        for n in seconds:
            hands = RayHands(ClusterOptions(workers=n, threads=1), machine.settings)
            for _ in range(1 + chosen.repeats):  # the first one is to load the weights
                took = _seconds(machine, lease, hands, reading)
                seconds[n] = min(seconds[n], took)
                sys.stdout.write(f"{n} workers: {took:.1f} s\n")
                sys.stdout.flush()
            hands.close()
    sys.stdout.write(
        f"Index of {text.n_tokens:,} tokens, {width:,} latents: 1 worker {seconds[1]:.1f} s, "
        f"2 workers {seconds[2]:.1f} s, {seconds[1] / seconds[2]:.2f} times as fast\n"
    )


def _seconds(machine: Machine, lease: Lease, hands: RayHands, reading: Reading) -> float:
    began = time.monotonic()
    HandedOut(hands, machine.store.directory).statistics(lease, reading)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
