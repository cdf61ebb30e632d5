"""A lock that is handed on in the order in which it was asked for.

Python's own locks go to whoever comes first once they are free: a task that gives its lock back
and asks for it again at once gets it again, however long others have waited.
"""

import threading
from collections import deque
from collections.abc import Callable

_POLL_SECONDS = 0.2


class FairLock:
    """Reentrant, first come first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, *, waiting: Callable[[], object] | None = None) -> None:
        """Wait for this thread's turn; `waiting` is called now and then, and may raise."""
        ticket = object()
        with self._changed:
            if self._owner == threading.get_ident():
                self._depth += 1
                return
            self._waiting.append(ticket)
        try:
            while not self._taken(ticket, None if waiting is None else _POLL_SECONDS):
                if waiting is not None:
                    waiting()
        except BaseException:
            with self._changed:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                self._changed.notify_all()
            raise

    def release(self) -> None:
        """Give it back, once for each `acquire`. Raises RuntimeError in a thread without it."""
        with self._changed:
            if self._owner != threading.get_ident():
                raise RuntimeError("The lock is not held by this thread.")
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _taken(self, ticket: object, timeout: float | None) -> bool:
        """Take the lock if it is this ticket's turn within `timeout` seconds."""
        with self._changed:
            is_mine = self._changed.wait_for(
                lambda: self._owner is None and self._waiting[0] is ticket, timeout
            )
            if is_mine:
                self._waiting.popleft()
                self._owner, self._depth = threading.get_ident(), 1
            return is_mine
