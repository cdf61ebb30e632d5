"""How long does a piece of work take on this machine, told by the last times that it was done?

Whoever announces a time measures it where the work is done, and not in advance: machines differ by
more than any formula knows. Times are kept as they would be with the machine to oneself, and told
as they are beside the jobs at work now (`core.urgency.sharing`).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from core.asking import may_compute
from core.store import JSON, Key, Store
from core.urgency import sharing

_VERSION = 1
_KEPT = 5
_LEAST_UNITS = 1e-9
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


def remember_time(
    store: Store, work: str, seconds: float, *, units: float = 1.0, shared_by: float | None = None
) -> None:
    """Note that `units` of some work took so many seconds; the last five times count.

    `work` names what is done and everything that its time depends on besides the units. `shared_by`
    is the number of jobs that were at work on the average, as many as now where it is None.
    """
    if not (seconds >= 0 and units > _LEAST_UNITS):
        return
    alone = seconds / (sharing() if shared_by is None else shared_by)
    times = [*_times(store, work), [float(units), float(alone)]][-_KEPT:]
    if may_compute():  # nobody notes who only looks
        store.keep(_key(work), times, JSON)


def usual_seconds(store: Store, work: str, *, units: float = 1.0) -> float | None:
    """About how long `units` of some work take here beside the jobs at work; None where it was
    never done.

    The median of the last times, each scaled to `units`.
    """
    times = _times(store, work)
    return median(seconds / n for n, seconds in times) * units * sharing() if times else None


@contextmanager
def measured(
    store: Store, work: str, *, units: float = 1.0, partly_stored: bool = False
) -> Iterator[None]:
    """A block whose time is noted if it ends well.

    Of work that may find a part of its results in the store, times under half of the usual one
    are not noted.
    """
    began, at_first = time.monotonic(), sharing()
    yield
    seconds, shared_by = time.monotonic() - began, (at_first + sharing()) / 2
    usual = usual_seconds(store, work, units=units)
    if not (partly_stored and usual is not None and seconds < usual / 2):
        remember_time(store, work, seconds, units=units, shared_by=shared_by)


def in_words(seconds: float) -> str:
    """A duration as one would say it."""
    if seconds < 1.5:
        return "about a second"
    if seconds < 20:
        return f"about {seconds:.0f} seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"


def in_short(seconds: float) -> str:
    """A duration for a narrow place: `12 s`, `3 min`, `5.2 h`, `2.1 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} days"


def _times(store: Store, work: str) -> list[list[float]]:
    kept: Any = store.get(_key(work), JSON)
    if not isinstance(kept, list):
        return []
    pairs = [pair for pair in kept if isinstance(pair, list) and len(pair) == 2]
    return [[float(n), float(seconds)] for n, seconds in pairs if n > _LEAST_UNITS]


def _key(work: str) -> Key:
    return Key("usual-time", _VERSION, {"work": work})
