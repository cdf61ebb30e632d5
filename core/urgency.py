"""How soon somebody waits for what a thread does: a page's own work goes before background jobs.

A page that is being drawn and a notebook are the most urgent; then short jobs, for which somebody
looks at a progress bar; then long ones. The lock of a model is handed on in that order
(`core.engine.fair_lock`). On a server for several people long jobs leave the processor to pages as
well (`yield_processor`); on one's own machine they keep their share, or they would hardly go on
where other programs want it.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum


class Urgency(IntEnum):
    """Smaller ones go first."""

    PAGE = 0
    SHORT = 1
    LONG = 2


_URGENCY: ContextVar[Urgency] = ContextVar("urgency", default=Urgency.PAGE)
_lock = threading.Lock()
_jobs_at_work = 0


def urgency() -> Urgency:
    """That of what this thread does."""
    return _URGENCY.get()


@contextmanager
def working(on: Urgency) -> Iterator[None]:
    """That of this thread until the block ends."""
    token, is_job = _URGENCY.set(on), on is not Urgency.PAGE
    _count(is_job)
    try:
        yield
    finally:
        _count(-is_job)
        _URGENCY.reset(token)


def sharing() -> int:
    """Among how many pieces of work this process divides the machine, the caller's own counted:
    jobs at work, and, where it is none of them, what the caller does or is about to begin."""
    with _lock:
        return _jobs_at_work + (urgency() is Urgency.PAGE)


def yield_processor(steps: int) -> None:
    """Let other threads have the processor first by so many of 20 steps, 5 of which leave about a
    quarter where two want all of it. This thread cannot take that back, and threads that it begins
    have it, too. Nothing happens where threads have no priorities of their own (all but Linux)."""
    if steps and sys.platform == "linux":
        here = os.getpriority(os.PRIO_PROCESS, 0)  # of this thread
        os.setpriority(os.PRIO_PROCESS, 0, min(19, here + steps))


def _count(more: int) -> None:
    global _jobs_at_work
    with _lock:
        _jobs_at_work += more
