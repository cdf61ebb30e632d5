"""How soon somebody waits for what a thread does: a page's own work goes before background jobs.

A page that is being drawn and a notebook are the most urgent; then short jobs, for which somebody
looks at a progress bar; then long ones. The lock of a model is handed on in that order
(`core.engine.fair_lock`); threads keep their share of the processor, or long jobs would hardly go
on where other programs want it, too.
"""

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


def urgency() -> Urgency:
    """That of what this thread does."""
    return _URGENCY.get()


@contextmanager
def working(on: Urgency) -> Iterator[None]:
    """That of this thread until the block ends."""
    token = _URGENCY.set(on)
    try:
        yield
    finally:
        _URGENCY.reset(token)
