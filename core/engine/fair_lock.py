"""A lock that is handed on by urgency, and else in the order in which it was asked for.

Python's own locks go to whoever comes first once they are free: a task that gives its lock back
and asks for it again at once gets it again, however long others have waited.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.urgency import Urgency, urgency

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 0.06
"""After a page has given it back: it mostly asks again at once, and then need not wait."""
_PATIENCE_SECONDS = 5.0
"""After so long a wait, even a long job is as urgent as a page."""


@dataclass(eq=False)
class _Ticket:
    """A thread in the line."""

    urgency: Urgency
    since: float

    def rank(self, now: float) -> int:
        """Smaller ones go first."""
        return 0 if now - self.since > _PATIENCE_SECONDS else int(self.urgency)


class FairLock:
    """Reentrant; the most urgent first (`core.urgency`), and of those first come first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._owner: int | None = None
        self._owner_urgency = Urgency.LONG
        self._depth = 0
        self._reserved = (0.0, Urgency.LONG)
        self._wanted_at = float("-inf")

    def acquire(self, *, waiting: Callable[[], object] | None = None) -> None:
        """Wait for this thread's turn; `waiting` is called now and then, and may raise."""
        ticket = _Ticket(urgency(), time.monotonic())
        with self._changed:
            if self._owner == threading.get_ident():
                self._depth += 1
                return
            if ticket.urgency < Urgency.LONG:
                self._wanted_at = time.monotonic()
            self._waiting.append(ticket)
        try:
            while not self._taken(ticket):
                if waiting is not None:
                    waiting()
        except BaseException:
            with self._changed:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                self._changed.notify_all()
            raise

    @property
    def owner(self) -> str | None:
        """Name of the thread that has it; None where nobody has."""
        with self._changed:
            owner = self._owner
        return next((one.name for one in threading.enumerate() if one.ident == owner), None)

    def wanted_lately(self, seconds: float) -> bool:
        """Whether a page or a short job asked for it within the last `seconds`."""
        return time.monotonic() - self._wanted_at < seconds

    def release(self) -> None:
        """Give it back, once for each `acquire`. Raises RuntimeError in a thread without it."""
        with self._changed:
            if self._owner != threading.get_ident():
                raise RuntimeError("The lock is not held by this thread.")
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._reserved = (time.monotonic() + _GRACE_SECONDS, self._owner_urgency)
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _taken(self, ticket: _Ticket) -> bool:
        """Take the lock if it is this ticket's turn within a moment."""
        with self._changed:
            now = time.monotonic()
            ends = now + _POLL_SECONDS
            while (wait := self._wait(ticket, now)) is not None and now < ends:
                self._changed.wait(min(wait, ends - now))
                now = time.monotonic()
            if wait is None:
                self._waiting.remove(ticket)
                self._owner, self._depth = threading.get_ident(), 1
                self._owner_urgency = ticket.urgency
            return wait is None

    def _wait(self, ticket: _Ticket, now: float) -> float | None:
        """None where it is this ticket's turn, else how long to wait before looking again."""
        if self._owner is not None:
            return _POLL_SECONDS
        first = min(self._waiting, key=lambda it: (it.rank(now), self._waiting.index(it)))
        if first is not ticket:
            return _POLL_SECONDS
        until, by = self._reserved
        return until - now if ticket.rank(now) > by and now < until else None
