"""One background job: what it does, how far it is, and how it ended."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from core.asking import looking
from core.device import is_out_of_memory
from core.jobs.progress import JobCancelled, Progress
from core.jobs.queue import Place
from core.room import EngineMemoryError
from core.urgency import Urgency, working, yield_processor

T = TypeVar("T")


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the job will not change any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobFailed(RuntimeError):
    """The work raised; the message is a sentence that can be shown."""


@dataclass(frozen=True)
class JobView:
    """One moment of a job, for display."""

    id: int
    """Unique in this process; later jobs have larger ones."""
    key: str
    """What is computed; the same for every user who asks for it."""
    title: str
    """What is computed, in words."""
    state: JobState
    """Where the job is in its life."""
    cancelling: bool
    """Whether somebody asked it to stop and it has not stopped yet."""
    done: float
    """Units finished."""
    total: float | None
    """Units in all, where known."""
    unit: str
    """What is counted."""
    message: str
    """What is being done now."""
    fraction: float | None
    """Share finished, 0 to 1; None when the total is unknown."""
    rate: float | None
    """Units a second; None until it can be told."""
    eta_seconds: float | None
    """Seconds to the end; None when it cannot be told or the job is not running."""
    of_step: bool
    """Whether that is the end of what is being done now, because the parts of the whole are not
    known; False where it is that of the whole."""
    error: str | None
    """Why it failed, as a sentence."""
    owners: tuple[str, ...]
    """Who asked for it, in the order they did."""
    link: str | None
    """The page that shows the result."""
    submitted_at: float
    """Unix time, seconds."""
    started_at: float | None
    """Unix time, seconds; None while queued."""
    finished_at: float | None
    """Unix time, seconds; None until finished."""
    account: str = ""
    """Whose share of the machine it takes."""
    short: bool = False
    """Whether it is over in seconds."""
    place: Place | None = None
    """Where it stands in the queue; None unless it is queued."""


class Job(Generic[T]):
    """One piece of work; made by `JobManager.submit`."""

    def __init__(
        self,
        number: int,
        key: str,
        title: str,
        work: Callable[[Progress], T],
        *,
        link: str | None,
        progress: Progress,
        submitted_at: float,
        short: bool = False,
        looks: bool = False,
    ) -> None:
        self.id, self.key, self.title, self.link = number, key, title, link
        self.progress, self.short, self.quick_place = progress, short, False
        self.looks = looks and not short
        self._work: Callable[[Progress], T] | None = work
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._state = JobState.QUEUED
        self._owners: dict[str, str] = {}  # who asked, and whose share that takes
        self._error: str | None = None
        self._result: T | None = None
        self._submitted_at = submitted_at
        self._started_at: float | None = None
        self._finished_at: float | None = None

    @property
    def state(self) -> JobState:
        """Where the job is in its life."""
        with self._lock:
            return self._state

    @property
    def only_looks(self) -> bool:
        """Whether the place it has is for looking whether its result is stored."""
        return self.quick_place and not self.short

    @property
    def account(self) -> str:
        """Whose share of the machine it takes: that of the first who still wants it."""
        with self._lock:
            return next(iter(self._owners.values()), "")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until finished, at most `timeout` seconds; whether it is finished."""
        return self._finished.wait(timeout)

    def result(self) -> T:
        """What the work returned.

        Raises `JobFailed` or `JobCancelled` if it did not return, and `RuntimeError` before it has
        finished (see `wait`).
        """
        with self._lock:
            if self._state is JobState.FAILED:
                raise JobFailed(self._error)
            if self._state is JobState.CANCELLED:
                raise JobCancelled
            if self._state is not JobState.DONE:
                raise RuntimeError(f"{self.title} is {self._state}; wait until it is finished.")
            return self._result  # type: ignore[return-value]  # T may itself include None

    def view(self) -> JobView:
        """The job at this moment."""
        progress = self.progress.view()
        with self._lock:
            running = self._state is JobState.RUNNING
            return JobView(
                id=self.id,
                key=self.key,
                title=self.title,
                state=self._state,
                cancelling=self.progress.cancelled and not self._state.finished,
                done=progress.done,
                total=progress.total,
                unit=progress.unit,
                message=progress.message,
                fraction=1.0 if self._state is JobState.DONE else progress.fraction,
                rate=progress.rate,
                eta_seconds=progress.eta_seconds if running else None,
                of_step=progress.planned is None,
                error=self._error,
                owners=tuple(self._owners),
                account=next(iter(self._owners.values()), ""),
                short=self.short,
                link=self.link,
                submitted_at=self._submitted_at,
                started_at=self._started_at,
                finished_at=self._finished_at,
            )

    def _add_owner(self, owner: str | None, account: str) -> None:
        with self._lock:
            if owner is not None:
                self._owners.setdefault(owner, account)

    def _without(self, owner: str) -> bool:
        """Take one off those who want it; whether somebody is left, or nobody had a name."""
        with self._lock:
            others = [it for it in self._owners if it != owner]
            if others:
                self._owners.pop(owner, None)
            return bool(others)

    def _reusable(self) -> bool:
        with self._lock:
            if self._state is JobState.DONE:
                return True
            # A job on its way to being cancelled will not give a newcomer a result.
            return not self._state.finished and not self.progress.cancelled

    def _do(self, *, background: bool, yielding: int) -> Any:
        """What the work returns. Raises what it raises, and NotThere where it only looks."""
        self.progress.check()
        long = background and not self.short and not self.only_looks
        if long:
            yield_processor(yielding)
        urgency = Urgency.LONG if long else Urgency.SHORT
        with working(urgency), looking() if self.only_looks else nullcontext():
            return None if self._work is None else self._work(self.progress)

    def _wait_again(self) -> None:
        with self._lock:
            self._state, self._started_at, self.looks = JobState.QUEUED, None, False

    def _finish(
        self, state: JobState, at: float, *, result: Any = None, error: str | None = None
    ) -> None:
        with self._lock:
            self._state, self._result, self._error, self._finished_at = state, result, error, at
            self._work = None  # the work may hold a model or large arrays
        self._finished.set()


def plain_sentence(problem: BaseException) -> str:
    """What to tell a user: a `ValueError` speaks for itself, anything else is named."""
    text = str(problem).strip()
    if isinstance(problem, ValueError) and text:
        return text
    if isinstance(problem, EngineMemoryError):
        return text
    name = type(problem).__name__
    if is_out_of_memory(problem):
        return "There was not enough memory; try a smaller model, SAE or batch."
    first_line = text.splitlines()[0] if text else "no further details"
    return f"Something unexpected went wrong ({name}: {first_line}). The log has the details."
