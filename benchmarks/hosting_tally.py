"""What many readers of one server saw, and what it took: figures of `benchmarks.hosting`."""

import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import psutil

from benchmarks.hosting_reader import Step


@dataclass
class Tally:
    """What was measured."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of each kind of step."""
    numbers: int = 0
    """Numbers that were compared."""
    wrong: list[tuple[str, Step, str, str]] = field(default_factory=list)
    """Reader, step, the number alone and the number seen."""
    again: int = 0
    """Views that were looked at once more, because something on them was still to come."""
    faults: Counter[str] = field(default_factory=Counter)
    """Steps that came to no end, by the kind of error."""

    def note(self, kind: str, seconds: float) -> None:
        """One step."""
        self.seconds.setdefault(kind, []).append(seconds)


class Watch:
    """Memory and open files of the server and its workers."""

    def __init__(self) -> None:
        mine = psutil.Process().children(recursive=True)
        self._server = next(it for it in mine if "tests.serve_hosted" in it.cmdline())
        self.noted: dict[str, tuple[int, int]] = {}

    def note(self, when: str) -> None:
        """Bytes and open files now."""
        processes = [self._server, *self._server.children(recursive=True)]
        n_bytes = n_files = 0
        for it in processes:
            with suppress(psutil.NoSuchProcess):
                n_bytes, n_files = n_bytes + it.memory_info().rss, n_files + it.num_fds()
        self.noted[when] = n_bytes, n_files


def print_tally(apart: Tally, tally: Tally, watch: Watch) -> None:
    """A Markdown table, then what was wrong, and the server's memory."""
    write = sys.stdout.write
    write(
        "| step | alone: n | p50 | p95 | together: n | p50 | p95 |\n|---|---|---|---|---|---|---|\n"
    )
    for kind, title in (
        ("cached", "views that were computed before"),
        ("typed", "texts of their own"),
        ("opened", "first page of a browser"),
    ):
        write(f"| {title} | {_quantiles(apart, kind)} | {_quantiles(tally, kind)} |\n")
    wrong, again = len(tally.wrong), tally.again
    write(f"\nNumbers compared: {tally.numbers:,}; wrong: {wrong}; looked at again: {again}.\n")
    for name, step, right, seen in tally.wrong[:20]:
        write(f"  {name}, {step.kind} of latent {step.latent}: {right!r}, seen {seen!r}\n")
    write(f"Steps without an end: {dict(tally.faults) or 'none'}.\n")
    for when, (n_bytes, n_files) in watch.noted.items():
        write(f"Server {when}: {n_bytes / 2**20:,.0f} MiB, {n_files} open files.\n")


def _quantiles(tally: Tally, kind: str) -> str:
    seconds = tally.seconds.get(kind, [])
    if not seconds:
        return "0 | – | –"
    low, high = np.quantile(seconds, (0.5, 0.95))
    return f"{len(seconds)} | {low:.2f} s | {high:.2f} s"
