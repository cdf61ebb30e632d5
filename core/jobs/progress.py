"""How far a piece of work is, how fast it goes, and whether it should stop."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SMOOTHING_SECONDS = 15.0
_LEAST_PLANNED = 0.03
"""Share of planned parts from which on the time that is left can be told."""


class JobCancelled(Exception):
    """Raised inside the work when somebody asked for it to stop."""


@dataclass(frozen=True)
class ProgressView:
    """One moment of a `Progress`."""

    done: float = 0.0
    """Units finished."""
    total: float | None = None
    """Units in all, where known."""
    unit: str = ""
    """What is counted: `tokens`, `bytes`."""
    message: str = ""
    """What is being done now."""
    rate: float | None = None
    """Units a second, smoothed over some 15 s; None until it can be told."""
    planned: float | None = None
    """Share finished of all planned parts, where the work has several; None otherwise."""
    planned_seconds: float | None = None
    """Seconds since the first of these began."""

    @property
    def fraction(self) -> float | None:
        """Share finished, 0 to 1; None when the total is unknown."""
        if self.planned is not None:
            return self.planned
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at the present rate; None when it cannot be told."""
        if self.planned is not None and self.planned_seconds is not None:
            if self.planned < _LEAST_PLANNED:
                return None
            return self.planned_seconds * (1 - self.planned) / self.planned
        if not self.total or not self.rate:
            return None
        return max(0.0, self.total - self.done) / self.rate


class Progress:
    """Handed to the work, which reports through it; read from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds; tests pass their own."""
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.reason = ""
        """Why the work was stopped, where that is not a wish of somebody's: a sentence."""
        self._view = ProgressView()
        self._seen_at: float | None = None
        self._units = self._seconds = 0.0
        self._parts: list[float] = []
        self._part, self._planned_at = 0, 0.0
        self._partial: Any = None

    def plan(self, *seconds: float) -> None:
        """Say of what parts the work consists, and about how long each takes, in any unit.

        The first begins now, each other one at `next_part`; the time that is left is then that of
        all parts and not of the one that is running.
        """
        with self._lock:
            self._parts, self._part, self._planned_at = [*seconds], 0, self._clock()

    def next_part(self) -> None:
        """The next planned part begins."""
        with self._lock:
            self._part += 1

    def _planned(self, done: float, total: float | None) -> float | None:
        if not sum(self._parts) or self._part >= len(self._parts):
            return None
        inside = min(1.0, done / total) if total else 0.0
        before = sum(self._parts[: self._part])
        return (before + inside * self._parts[self._part]) / sum(self._parts)

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """Report that `done` of `total` units are finished; call it as often as you like.

        A new total, a new unit or a smaller `done` starts a new phase with a rate of its own.
        Raises `JobCancelled` when the work should stop, and `ValueError` for negative counts.
        """
        if not (math.isfinite(done) and done >= 0):
            raise ValueError(f"done is {done}; report a count from 0 up.")
        if total is not None and not (math.isfinite(total) and total >= 0):
            raise ValueError(f"total is {total}; report a count from 0 up, or None if unknown.")
        with self._lock:
            rate = self._new_rate(done, total, unit)
            self._view = ProgressView(
                done,
                total,
                unit,
                message,
                rate,
                self._planned(done, total),
                self._clock() - self._planned_at,
            )
        self.check()

    def _new_rate(self, done: float, total: float | None, unit: str) -> float | None:
        now, last = self._clock(), self._view
        same_phase = (total, unit) == (last.total, last.unit) and done >= last.done
        if self._seen_at is None or not same_phase:
            self._units = self._seconds = 0.0
        else:
            # Both sums fade alike: a plain average at first, later one over recent seconds.
            elapsed = now - self._seen_at
            fade = math.exp(-elapsed / _SMOOTHING_SECONDS)
            self._units = self._units * fade + done - last.done
            self._seconds = self._seconds * fade + elapsed
        self._seen_at = now
        return self._units / self._seconds if self._seconds > 0 else None

    def publish(self, partial: Any) -> None:
        """Show what of the result is there: an object that nobody changes afterwards.

        It stays when the work is stopped or fails; None takes it back.
        """
        self._partial = partial

    @property
    def partial(self) -> Any:
        """What was published last; None where nothing was."""
        return self._partial

    def check(self) -> None:
        """Raise `JobCancelled` if somebody asked for the work to stop."""
        if self._stop.is_set():
            raise JobCancelled

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the work to stop."""
        return self._stop.is_set()

    def cancel(self, reason: str = "") -> None:
        """Ask the work to stop at its next `update` or `check`.

        With a `reason`, a sentence, the job has failed for that reason.
        """
        if not self._stop.is_set():
            self.reason = reason
        self._stop.set()

    def view(self) -> ProgressView:
        """How far the work is now."""
        with self._lock:
            return self._view


class PartProgress(Progress):
    """Progress of one part of a longer work, told to the whole."""

    def __init__(
        self,
        whole: Progress,
        *,
        before: float = 0,
        total: float | None = None,
        message: str | None = None,
        silent: bool = False,
    ) -> None:
        """`before` of `total` units were finished when this part begins.

        With `message`, the whole says that rather than the part's own words. With `silent` it
        says nothing new, and the part only learns whether to stop.
        """
        super().__init__()
        self._whole, self._before, self._of = whole, before, total
        self._what, self._silent = message, silent

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """As `Progress.update`, counted on from the parts before."""
        if self._silent:
            self._whole.check()
            return
        self._whole.update(
            self._before + done,
            total if self._of is None else self._of,
            unit=unit,
            message=message if self._what is None else self._what,
        )

    def publish(self, partial: Any) -> None:
        """As `Progress.publish`, to the whole."""
        self._whole.publish(partial)

    def check(self) -> None:
        """As `Progress.check`, of the whole."""
        self._whole.check()

    @property
    def cancelled(self) -> bool:
        """As `Progress.cancelled`, of the whole."""
        return self._whole.cancelled
