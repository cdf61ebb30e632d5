"""Is there room for this work? Refused with both figures before it begins, if not.

    with lease.room(n_bytes, "The index of 100,000 latents", remedy="read fewer SAEs at a time"):
        ...

The estimate is of what the work itself allocates; models and SAEs are admitted when they are
loaded. The same rule holds on a laptop and on a server: work that cannot fit is refused, for the
alternative is that the system ends the whole explorer, with everybody's work.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.device import format_bytes, memory_free


class NoRoom(ValueError):
    """Work needs more memory than is free; the message has both figures and a remedy."""


class EngineMemoryError(MemoryError):
    """Memory ran out although everything idle was unloaded; the message says what to do."""


class Room:
    """Memory by device, and what running work has set aside of it."""

    def __init__(
        self,
        *,
        free: Callable[[str], int] = memory_free,
        idle: Callable[[str], int] = lambda device: 0,
        relieve: Callable[[str, int], int] = lambda device, short: 0,
    ) -> None:
        """Of a device, `free` tells the bytes that are free now, `idle` how many more `relieve` can
        give back by unloading what nobody uses; it is given those that are short and tells those
        that it gave."""
        self._free, self._idle, self._relieve = free, idle, relieve
        self._lock = threading.Lock()
        self._promised: dict[str, int] = {}
        self._left: dict[str, int] = {}

    @contextmanager
    def set_aside(
        self, n_bytes: int, what: str, *, remedy: str, device: str = "cpu"
    ) -> Iterator[None]:
        """Keep `n_bytes` of `device` for `what` until the block ends.

        Raises NoRoom where they are not free, after unloading what is idle. `remedy` is what to do
        about it, in words that follow "; ".
        """
        device = place_of(device)
        self.check(n_bytes, what, remedy=remedy, device=device, _take=True)
        try:
            yield
        finally:
            with self._lock:
                self._promised[device] -= n_bytes
                self._left[device] += n_bytes
                if not self._promised[device]:
                    del self._promised[device], self._left[device]

    def check(
        self, n_bytes: int, what: str, *, remedy: str, device: str = "cpu", _take: bool = False
    ) -> None:
        """Raise NoRoom where `n_bytes` of `device` are not free, after unloading what is idle."""
        device = place_of(device)
        short = n_bytes - self._available(device)
        if (
            0 < short <= self._idle(device)
        ):  # nothing is unloaded for what does not fit all the same
            freed = self._relieve(device, short)
            with self._lock:
                if device in self._left:
                    self._left[device] += freed
        with self._lock:
            available = self._available(device)
            if n_bytes > available:
                promised = self._promised.get(device, 0)
                beside = f" beside {format_bytes(promised)} set aside for running work"
                later = ", or try again when that has ended"
                raise NoRoom(
                    f"{what} needs about {format_bytes(n_bytes)} of memory on {device}, and "
                    f"{format_bytes(available + self._idle(device))} is free"
                    f"{beside if promised else ''}; {remedy}{later if promised else ''}."
                )
            if _take:
                self._promised[device] = self._promised.get(device, 0) + n_bytes
                self._left[device] = available - n_bytes

    def _available(self, device: str) -> int:
        # What others have set aside and not yet allocated counts as free to the system; what they
        # have allocated must not be taken off twice. So the smaller of two: what is free now, and
        # what was free when they began, less what they set aside.
        free = self._free(device)
        return min(free, max(0, self._left.get(device, free)))


def place_of(device: str) -> str:
    """One name a device: `cuda` is its first, and `mps` shares the host's memory."""
    return {"cuda": "cuda:0", "mps": "cpu"}.get(device, device)


ROOM = Room()
"""For work outside an engine: notebooks and tests."""
