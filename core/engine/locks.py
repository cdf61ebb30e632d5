"""One lock a model, with the two rules that keep threads from waiting for each other for ever."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from core.engine.fair_lock import FairLock
from core.hub import Progress
from core.jobs import JOB_THREAD

WAITING = "waiting for"
"""How what a task says begins while others have its model."""
Variant = tuple[tuple[str, bool], ...]
"""Weight processing other than the default, sorted by name."""


def waiting_words(model: str, owner: str | None) -> str:
    """What a task says while the thread called `owner` has its model."""
    if owner is not None and owner.startswith(JOB_THREAD):
        return f"{WAITING} {model}, which “{owner.removeprefix(JOB_THREAD)}” is using"
    return f"{WAITING} {model}, which a page is using for a moment"


class ModelLocks:
    """Reentrant locks by model name; a thread holds at most one model at a time."""

    def __init__(self) -> None:
        self._locks: dict[str, FairLock] = {}
        self._guard = threading.Lock()
        self._thread = threading.local()

    @property
    def held(self) -> tuple[str, Variant] | None:
        """Name and variant of the model that this thread holds, if it holds one."""
        return getattr(self._thread, "held", None)

    def wanted_lately(self, name: str, seconds: float) -> bool:
        """Whether a page or a short job asked for the model within the last `seconds`."""
        with self._guard:
            lock = self._locks.get(name)
        return lock is not None and lock.wanted_lately(seconds)

    def check_nesting(self, name: str) -> None:
        """Raise ValueError if this thread holds another model than `name`."""
        if self.held is not None and self.held[0] != name:
            raise ValueError(
                f"This thread already holds {self.held[0]}; leave its `with engine.use(...)` "
                f"before using {name}, or two tasks could wait for each other for ever."
            )

    @contextmanager
    def hold(
        self, name: str, *, variant: Variant = (), progress: Progress | None = None
    ) -> Iterator[None]:
        """Hold the lock of `name`; `progress` is called while others have it, and may raise."""
        self.check_nesting(name)
        with self._guard:
            lock = self._locks.setdefault(name, FairLock())
        if progress is None:
            lock.acquire()
        else:
            lock.acquire(waiting=lambda: progress(0, None, waiting_words(name, lock.owner)))
        outer = self.held
        self._thread.held = (name, variant)
        try:
            yield
        finally:
            self._thread.held = outer
            lock.release()

    @contextmanager
    def hold_all(self) -> Iterator[None]:
        """Hold every model's lock, so that nothing runs; only this thread's if it has one."""
        with ExitStack() as held:
            if self.held is None:
                with self._guard:
                    locks = [self._locks[name] for name in sorted(self._locks)]
                for lock in locks:
                    held.enter_context(lock)
            yield
