"""What is loaded: one load per key however many threads ask, least recently used out first.

Knows nothing about models: keys, objects and their sizes. An object is never evicted while
somebody uses it or waits to use it.
"""

import gc
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from core.device import format_bytes
from core.hub import Progress
from core.lazy import imported

_POLL_SECONDS = 0.2
_WORTH_COLLECTING = 10_000_000
"""Bytes for which a garbage collection, which takes up to a second, is worth its time."""


@dataclass
class Resident:
    """One loaded object."""

    key: Hashable
    """What it was loaded as."""
    value: Any
    """The object."""
    n_bytes: int
    """Its size."""
    users: int = 0
    """Leases that hold it or wait for it."""
    used_at: float = 0.0
    """When a lease of it last began or ended, in seconds since the epoch."""
    order: int = 0
    """Counts up with each use; the smallest is evicted first."""
    serial: int = 0
    """Counts up with each load, so that a reload is told apart."""


@dataclass
class _Flight:
    """A load that is under way, for those who wait for it."""

    ended: threading.Event = field(default_factory=threading.Event)
    state: tuple[int, int | None, str] = (0, None, "loading")
    error: Exception | None = None

    def wait(self, progress: Progress | None) -> None:
        """Until the load has ended; meanwhile `progress` hears what its loader hears."""
        while not self.ended.wait(None if progress is None else _POLL_SECONDS):
            if progress is not None:
                progress(*self.state)


class Residents:
    """The loaded objects of one engine, within a budget of bytes."""

    def __init__(self, budget_bytes: Callable[[], int], *, size_of: Callable[[Any], int]) -> None:
        self._budget_bytes = budget_bytes
        self._size_of = size_of
        self._lock = threading.Lock()
        self._residents: dict[Hashable, Resident] = {}
        self._flights: dict[Hashable, _Flight] = {}
        self._uses = 0

    def acquire(
        self,
        key: Hashable,
        load: Callable[[Progress], Any],
        *,
        progress: Progress | None = None,
    ) -> Resident:
        """The object of `key`, loaded if need be; it stays until `release`.

        Threads that ask during a load wait for it and share its failure, except when its loader
        was cancelled: then one of them loads. What `progress` raises ends the caller's waiting.
        """
        while True:
            with self._lock:
                resident = self._residents.get(key)
                if resident is not None:
                    resident.users += 1
                    self._touch(resident)
                    return resident
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = _Flight()
            if flight is None:
                return self._load(key, load, mine, progress)
            flight.wait(progress)
            if flight.error is not None:
                raise flight.error

    def _load(
        self,
        key: Hashable,
        load: Callable[[Progress], Any],
        flight: _Flight,
        progress: Progress | None,
    ) -> Resident:
        cancelled_by: list[BaseException] = []

        def report(done: int, total: int | None, message: str) -> None:
            flight.state = (done, total, message)
            if progress is not None:
                try:
                    progress(done, total, message)
                except BaseException as error:
                    cancelled_by.append(error)
                    raise

        try:
            value = load(report)
            resident = Resident(key=key, value=value, n_bytes=self._size_of(value), users=1)
        except BaseException as error:
            # One user's cancellation, or the end of their session, is no failure for the others.
            if isinstance(error, Exception) and error not in cancelled_by:
                flight.error = error
            with self._lock:
                del self._flights[key]
            flight.ended.set()
            raise
        with self._lock:
            self._residents[key] = resident
            self._touch(resident)
            resident.serial = resident.order
            del self._flights[key]
        flight.ended.set()
        self._evict_to(self._budget_bytes())
        return resident

    def release(self, resident: Resident) -> None:
        """End one use."""
        with self._lock:
            resident.users -= 1
            self._touch(resident)

    def make_room(self, n_bytes: int, what: str) -> None:
        """Evict idle objects until `n_bytes` more fit.

        Raises:
            ValueError: they cannot fit, with figures.
        """
        budget = self._budget_bytes()
        with self._lock:
            in_use = sum(loaded.n_bytes for loaded in self._residents.values() if loaded.users)
        if n_bytes > budget:
            raise ValueError(
                f"{what} needs {format_bytes(n_bytes)} and the explorer may use "
                f"{format_bytes(budget)}; choose a smaller one, or a device with more memory."
            )
        if n_bytes > budget - in_use:
            raise ValueError(
                f"{what} needs {format_bytes(n_bytes)}; of the {format_bytes(budget)} that the "
                f"explorer may use, {format_bytes(in_use)} are in use by running tasks. Try again "
                "when they have finished."
            )
        self._evict_to(budget - n_bytes)

    def evict(self, keys: Callable[[Hashable], bool] = lambda _: True) -> int:
        """Unload all idle objects whose key satisfies `keys`; returns the bytes freed."""
        return self._evict_to(-1, keys)

    def give_back(self, n_bytes: int) -> int:
        """Unload idle objects, oldest use first, until `n_bytes` are freed; returns the bytes."""
        total = sum(loaded.n_bytes for loaded in self.listing())
        return self._evict_to(max(-1, total - n_bytes))

    def listing(self) -> list[Resident]:
        """What is loaded now, most recently used first."""
        with self._lock:
            return sorted(self._residents.values(), key=lambda loaded: -loaded.order)

    def _touch(self, resident: Resident) -> None:
        self._uses += 1
        resident.order = self._uses
        resident.used_at = time.time()

    def _evict_to(self, n_bytes: int, keys: Callable[[Hashable], bool] = lambda _: True) -> int:
        """Evict idle objects, oldest use first, while more than `n_bytes` are loaded."""
        freed = 0
        with self._lock:
            total = sum(loaded.n_bytes for loaded in self._residents.values())
            for resident in sorted(self._residents.values(), key=lambda loaded: loaded.order):
                if total - freed <= n_bytes:
                    break
                if resident.users == 0 and keys(resident.key):
                    del self._residents[resident.key]
                    freed += resident.n_bytes
                    resident.value = None
        if freed >= _WORTH_COLLECTING:
            free_caches()
        return freed


def free_caches() -> None:
    """Give memory of unreachable objects back to the device."""
    # Models hold themselves in cycles, so dropping the last reference frees nothing yet.
    gc.collect()
    torch = imported("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
