"""Latent-to-latent gradients on GPT-2-small shapes: plain `jacrev`, or `core.gradients`.

Both sides of every row run in processes of their own, one after the other, so that memory can be
told as well. A plain side that would need more than there is ends at its limit and says so.
`python -m benchmarks.gradients 43 128` measures prompts of these lengths only.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sae_lens import SAE, HookedSAETransformer
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from torch import Tensor
from transformer_lens import HookedTransformerConfig

from core.device import choose_device, format_bytes, memory_free
from core.gradients import latent_to_latent_gradients
from core.saes import decode, encode
from core.settings import REPOSITORY, Settings

ACTIVE, D_SAE, D_MODEL = 25, 24576, 768
LENGTHS = (9, 43, 128)
SIDES = ("plain", "ours")
_LONGEST = 900
"""Seconds after which a side is given up."""
_RUNS, _ENOUGH = 5, 10.0
"""Runs of each side, the median of which counts; no further one after so many seconds."""
_SHARE_OF_FREE = 0.8
"""Share of the free memory at which a side is stopped."""


@cache
def setting(device: str) -> tuple[HookedSAETransformer, SAE, SAE]:
    """Three layers with random weights of real size, and two SAEs around them."""
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=4,
        d_model=D_MODEL,
        n_heads=12,
        d_head=64,
        d_mlp=3072,
        n_ctx=128,
        d_vocab=1000,
        act_fn="gelu_new",
        normalization_type="LNPre",
        seed=0,
        device=device,
    )
    model = HookedSAETransformer(config).eval().requires_grad_(False)
    first, second = (_sae(f"blocks.{layer}.hook_resid_pre", device) for layer in (0, 3))
    return model, first, second


def prompt(n_tokens: int) -> Tensor:
    """Random tokens [1, n_tokens]."""
    return torch.randint(0, 1000, (1, n_tokens), generator=torch.Generator().manual_seed(0))


def plain(tokens: Tensor, device: str) -> Tensor:
    """The definition: decode, the layers, encode, and `jacrev` over the active latents."""
    model, first, second = setting(device)
    with torch.no_grad():
        start = model(tokens, stop_at_layer=0)
        acts = encode(first, start)
    mask = acts > 0

    def later(values: Tensor) -> Tensor:
        dense = torch.zeros_like(acts).index_put(mask.nonzero(as_tuple=True), values)
        stream = model(decode(first, dense), start_at_layer=0, stop_at_layer=3)
        latents = encode(second, stream)
        return latents[latents > 0]

    return torch.func.jacrev(later)(acts[mask])


def ours(tokens: Tensor, device: str) -> Tensor:
    """The same matrix."""
    model, first, second = setting(device)
    return latent_to_latent_gradients(tokens, first, second, model)[0]


def print_gradients(lengths: tuple[int, ...] = LENGTHS) -> None:
    """A Markdown table on standard output: seconds, and memory beyond the loaded model."""
    write = sys.stdout.write
    device = choose_device(Settings.from_environment().device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    write(
        f"Gradients between latents on {device} ({name}): 3 layers of GPT-2 small's size, "
        f"{ACTIVE} of {D_SAE:,} latents active a position\n\n"
        "| tokens | pairs | `jacrev` | its memory | `core.gradients` | its memory | faster "
        "| largest difference |\n|---|---|---|---|---|---|---|---|\n"
    )
    for n_tokens in lengths:
        with tempfile.TemporaryDirectory() as folder:
            sides = {side: _in_a_process(side, n_tokens, device, Path(folder)) for side in SIDES}
            write(_line(n_tokens, sides["plain"], sides["ours"]))
        sys.stdout.flush()


def _line(n_tokens: int, plain_side: dict[str, Any], our_side: dict[str, Any]) -> str:
    def told(side: dict[str, Any]) -> tuple[str, str]:
        if "problem" in side:
            return str(side["problem"]), "-"
        return f"{side['seconds']:.2f} s", format_bytes(side["bytes"])

    ratio = difference = "-"
    if "problem" not in plain_side and "problem" not in our_side:
        ratio = f"{plain_side['seconds'] / our_side['seconds']:.1f}×"
        expected, found = (np.load(side["values"]) for side in (plain_side, our_side))
        difference = f"{np.abs(found - expected).max() / np.abs(expected).max():.0e}"
    pairs = "-" if "pairs" not in our_side else f"{our_side['pairs']:,}"
    cells = [str(n_tokens), pairs, *told(plain_side), *told(our_side), ratio, difference]
    return f"| {' | '.join(cells)} |\n"


def _in_a_process(side: str, n_tokens: int, device: str, folder: Path) -> dict[str, Any]:
    """What `_measure` finds in a process of its own, or the problem that it met."""
    command = [sys.executable, "-m", "benchmarks.gradients", str(n_tokens), "--side", side]
    command += ["--device", device, "--folder", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, cwd=REPOSITORY, text=True, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"not done after {_LONGEST} s"}
    if done.returncode:
        return {"problem": f"ended with {done.returncode}: {done.stderr.strip()[-200:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(side: str, n_tokens: int, device: str, folder: Path) -> dict[str, Any]:
    """Seconds, and peak bytes beyond those of the loaded model, in this process."""
    work = plain if side == "plain" else ours
    setting(device)
    work(prompt(3), device)
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident()
    peak = _Peak(before + _SHARE_OF_FREE * memory_free("cpu"))
    seconds: list[float] = []
    try:
        with peak:
            while len(seconds) < _RUNS and sum(seconds) < _ENOUGH:
                began = time.perf_counter()
                values = work(prompt(n_tokens), device)
                if on_cuda:
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - began)
    except (RuntimeError, MemoryError) as error:
        wanted = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error))
        return {"problem": f"out of memory, asked for {wanted[1] if wanted else 'more'}"}
    highest = torch.cuda.max_memory_allocated(device) if on_cuda else peak.highest
    np.save(folder / f"{side}.npy", values.cpu().numpy())
    return {
        "seconds": median(seconds),
        "bytes": highest - before,
        "pairs": values.numel(),
        "values": str(folder / f"{side}.npy"),
    }


class _Peak:
    """Watches this process's memory; ends it, with a word, before the machine runs out."""

    def __init__(self, limit: float) -> None:
        self.highest, self._limit = 0, limit
        self._done = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            now = _resident()
            self.highest = max(self.highest, now)
            if now > self._limit:
                problem = f"out of memory: stopped at {format_bytes(now)}"
                sys.stdout.write(json.dumps({"problem": problem}) + "\n")
                sys.stdout.flush()
                os._exit(0)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _sae(hook_name: str, device: str) -> SAE:
    config = TopKSAEConfig(
        d_in=D_MODEL,
        d_sae=D_SAE,
        k=ACTIVE,
        device=device,
        metadata=SAEMetadata(hook_name=hook_name),
    )
    return TopKSAE(config).eval().requires_grad_(False)


def main() -> None:
    """Print the table, or, as one side of it, what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n_tokens", type=int, nargs="*", default=LENGTHS)
    for hidden in ("--side", "--device", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is None:
        print_gradients(tuple(options.n_tokens))
        return
    found = _measure(options.side, options.n_tokens[0], options.device, Path(options.folder))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
