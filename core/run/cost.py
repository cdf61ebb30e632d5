"""What work will cost, measured on first shards of it.

Two shards of the text, a short one and a longer one, go through the very functions that the work
itself calls, with a store that is thrown away. Time and disk are drawn out along the line through
the two: what every run needs, and what every token needs.
"""

import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from core.device import format_bytes
from core.jobs.progress import Progress
from core.store import Store
from core.usual_time import in_short

SHARD_TOKENS, SHORT_TOKENS = 16_384, 1024
"""Tokens of the longer shard, and of the shorter one, where the text has that many."""
_POLL_SECONDS, _LOOK_SECONDS = 0.02, 0.5
"""Between two looks at the memory, and at which processes there are."""
_BYTES_A_TOKEN = 16


@dataclass(frozen=True)
class Cost:
    """What a run takes."""

    seconds: float = 0.0
    """Time, from now on."""
    memory: float = 0.0
    """Bytes of memory of this process, and those that it starts, at their largest."""
    disk: float = 0.0
    """Bytes that stay on the disk."""
    store: float = 0.0
    """Of these, bytes in the store of results, whose size is limited."""
    download: int = 0
    """Bytes to be fetched first."""
    calls: int = 0
    """Questions to a chat service, at most."""
    prompt_tokens: int = 0
    """Tokens sent to it, about."""
    completion_tokens: int = 0
    """Tokens received, at most."""
    dollars: float | None = 0.0
    """What these cost, at most; None where the prices are not known."""
    basis: str = ""
    """What it was measured on, as a sentence."""
    notes: tuple[str, ...] = field(default=())
    """What else should be known, in sentences."""

    def lines(self) -> list[str]:
        """The figures, a line each."""
        money = "$0, no service is asked"
        if self.calls:
            price = "unknown" if self.dollars is None else f"at most ${self.dollars:,.4f}"
            money = (
                f"{price} ({self.calls:,} questions, about {self.prompt_tokens:,} tokens sent, at "
                f"most {self.completion_tokens:,} received)"
            )
        download = [f"Download  {format_bytes(self.download)}"] if self.download else []
        return [
            *download,
            f"Time      about {in_short(self.seconds)}"
            + (", and until the service has answered" if self.calls else ""),
            f"Memory    about {format_bytes(self.memory)}",
            f"Disk      about {format_bytes(self.disk)}",
            f"Money     {money}",
            *([self.basis] if self.basis else []),
            *self.notes,
        ]


@dataclass(frozen=True)
class Measured:
    """What one shard took."""

    tokens: int
    """Tokens asked for."""
    seconds: float
    """Time."""
    memory: float
    """Bytes of memory at the largest."""
    disk: float
    """Bytes written to its folder."""
    store: float
    """Of these, bytes in the store of results."""


def shards_of(tokens: int, *, shorter: int = SHORT_TOKENS) -> tuple[int, int]:
    """Tokens of the two shards of a text.

    The shorter one tells what every run needs; where work has a part that ends after so many
    tokens, it is `shorter` that long. The longer one has more weight on a busy machine.
    """
    longer = max(2, min(max(SHARD_TOKENS, 4 * shorter), tokens // 2))
    return max(1, min(shorter, longer // 2)), longer


def measured(
    work: Callable[[Store, int, Progress], object],
    shards: Sequence[int],
    progress: Progress,
    *,
    all_processes: bool = True,
) -> list[Measured]:
    """What `work(store, tokens, progress)` takes on each shard; the first one also warms up.

    The memory is that of this process and, with `all_processes`, of those that it started.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="first-shard-") as folder:
        for number, tokens in enumerate((shards[0], *shards)):
            store = Store(Path(folder) / str(number))
            empty, others = store_bytes(store), bytes_beside(store)
            with peak_memory(all_processes=all_processes) as peak:
                began = time.monotonic()
                work(store, tokens, progress)
                took = time.monotonic() - began
            in_store = store_bytes(store) - empty
            disk = in_store + bytes_beside(store) - others
            found.append(Measured(tokens, took, peak(), disk, in_store))
            store.close()
    return found[1:]


def drawn_out(shards: Sequence[Measured], tokens: int) -> Cost:
    """What the whole text takes, by the line through two shards."""
    first, last = shards[0], shards[-1]
    step = max(1, last.tokens - first.tokens)

    def at(one: float, other: float, most: float = math.inf) -> float:
        slope = min(most, max(0.0, (other - one) / step))
        return other + slope * (tokens - last.tokens)

    # On a busy machine the second shard may be slow by chance; no part of it runs backwards.
    a_token = last.seconds / last.tokens
    return Cost(
        seconds=at(first.seconds, last.seconds, a_token),
        # Passes go through a text piece by piece: the tokens alone grow with it.
        memory=last.memory + _BYTES_A_TOKEN * (tokens - last.tokens),
        disk=at(first.disk, last.disk),
        store=at(first.store, last.store),
        basis=f"Measured on the first {last.tokens:,} of {tokens:,} tokens.",
    )


def together(costs: Sequence[Cost]) -> Cost:
    """What runs one after the other take: times add up, the largest needs the memory."""
    prices = [cost.dollars for cost in costs]
    return replace(
        costs[0],
        seconds=sum(cost.seconds for cost in costs),
        memory=max(cost.memory for cost in costs),
        disk=sum(cost.disk for cost in costs),
        store=sum(cost.store for cost in costs),
        calls=sum(cost.calls for cost in costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        completion_tokens=sum(cost.completion_tokens for cost in costs),
        dollars=None if None in prices else sum(price or 0 for price in prices),
        notes=tuple(dict.fromkeys(note for cost in costs for note in cost.notes)),
    )


@contextmanager
def peak_memory(*, all_processes: bool = True) -> Iterator[Callable[[], int]]:
    """A function that says how many bytes this process had at its largest since the block began.

    With `all_processes`, this one together with those that it started: numba and the reading of
    documentation have processes of their own.
    """
    own, ended = _Processes(every=all_processes), threading.Event()
    largest = own.bytes()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(_POLL_SECONDS):
            largest = max(largest, own.bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(largest, own.bytes())
    finally:
        ended.set()
        thread.join()


class _Processes:
    """This process, and those that it started, which are looked for now and then."""

    def __init__(self, *, every: bool) -> None:
        self._own, self._every = psutil.Process(), every
        self._others: list[psutil.Process] = []
        self._looked = -math.inf

    def bytes(self) -> int:
        """Memory of all of them."""
        if self._every and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._others = self._own.children(recursive=True)
            self._looked = time.monotonic()
        total = int(self._own.memory_info().rss)
        for process in self._others:
            with suppress(psutil.NoSuchProcess):
                total += int(process.memory_info().rss)
        return total


def store_bytes(store: Store) -> int:
    """Bytes of both tiers of a store."""
    usage = store.usage()
    return usage.recomputable.bytes + usage.paid.bytes


def bytes_beside(store: Store) -> int:
    """Bytes of what lies beside a store and is no result: every firing of some SAEs."""
    files = (store.directory / "firings").rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
