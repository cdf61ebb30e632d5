"""Measure two ways of doing the same thing, alternating, and print what they cost."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from core.device import choose_device
from core.settings import Settings

DEVICE = choose_device(Settings.from_environment().device)
"""Where benchmarks that use it run: what `SAE_EXPLORER_DEVICE` says, else a GPU if there is one."""


def described_device(device: str) -> str:
    """The device in words: the GPU's name, or the threads of the CPU."""
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device}, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Row:
    """One comparison."""

    claim: str
    """What is compared."""
    plain: Callable[[], object]
    """The straightforward way."""
    ours: Callable[[], object]
    """What the explorer does."""
    repeats: int = 5
    """Runs of each side; the median counts."""


def measure(row: Row) -> tuple[float, float]:
    """Median seconds of the plain way and of ours; one run of each first, to warm up.

    The sides take turns, so that a slow spell of the machine falls on both.
    """
    row.plain(), row.ours()
    plain, ours = [], []
    for _ in range(row.repeats):
        plain.append(seconds_of(row.plain))
        ours.append(seconds_of(row.ours))
    return median(plain), median(ours)


def print_table(rows: list[Row]) -> None:
    """A Markdown table on standard output."""
    write = sys.stdout.write
    write("| what | plain | ours | ratio |\n|---|---|---|---|\n")
    for row in rows:
        plain, ours = measure(row)
        write(f"| {row.claim} | {_text(plain)} | {_text(ours)} | {plain / ours:.1f}× |\n")
        sys.stdout.flush()


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call, what it started on a GPU included."""
    wait = _waiting()
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def _waiting() -> Callable[[], object]:
    """What waits for the GPU; nothing to wait for without one."""
    if not DEVICE.startswith("cuda"):
        return lambda: None
    import torch

    return torch.cuda.synchronize


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"
