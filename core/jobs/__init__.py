"""Background work that outlives the page that started it.

    manager = JobManager(max_workers=2)
    job = manager.submit("map:" + key.digest, "Layer map of gpt2", lambda progress: fit(progress))
    job.view().fraction, job.view().eta_seconds

Jobs are threads of this process. A key names the work: whoever asks for the same key while it is
queued, running or done gets the same job, so two users never compute one thing twice. Results stay
in memory only as long as the job is listed; keep what matters in the store.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from core.asking import NotThere
from core.device import is_out_of_memory
from core.jobs.job import Job, JobFailed, JobState, JobView, plain_sentence
from core.jobs.progress import JobCancelled, Progress
from core.jobs.queue import Place, Running, Turns, Waiting, forecast, free_place
from core.jobs.usual import UsualSeconds

__all__ = [
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobManager",
    "JobState",
    "JobView",
    "Progress",
]

log = logging.getLogger(__name__)
JOB_THREAD = "job: "
"""How the name of a job's thread begins; its title follows, so that who waits can say for what."""
T = TypeVar("T")


class JobManager:
    """Runs jobs, at most `max_workers` at once; whose turn it is says `core.jobs.queue`."""

    def __init__(
        self,
        *,
        max_workers: int = 2,
        quick_workers: int = 0,
        keep_finished: int = 100,
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        relieve: Callable[[], object] = lambda: None,
        yielding: int = 0,
    ) -> None:
        """`quick_workers` more run short jobs alone. Long jobs in the `background` let pages and
        short ones have models first, and by `yielding` of 20 steps the processor. `clock` and
        `wall_clock` measure and date; tests pass their own. `relieve` gives memory back after a job
        ran out of it."""
        if max_workers < 1 or keep_finished < 1 or quick_workers < 0:
            raise ValueError(
                f"max_workers is {max_workers}, quick_workers {quick_workers} and keep_finished"
                f" {keep_finished}; use 1, 0 and 1 or more."
            )
        self._places = {"general": max_workers, "quick": quick_workers}
        self._keep_finished, self._background = keep_finished, background
        self._clock, self._wall_clock, self._relieve = clock, wall_clock, relieve
        self._lock, self._yielding = threading.Lock(), yielding
        self._jobs: dict[int, Job[Any]] = {}
        self._queue: list[Job[Any]] = []
        self._running: dict[int, Job[Any]] = {}
        self._turns = Turns()
        self._usual = UsualSeconds()
        self._submitted = 0
        self._closed = ""

    def submit(
        self,
        key: str,
        title: str,
        work: Callable[[Progress], T],
        *,
        owner: str | None = None,
        account: str | None = None,
        short: bool = False,
        looks: bool = False,
        link: str | None = None,
    ) -> Job[T]:
        """The job of `key`: the one queued, running or done, else a new one that runs `work`.

        `work` reports through its `Progress` and should call `check` or `update` often, for that
        is where it can be cancelled. It must not wait for another job: all workers may be waiting.
        `owner` is who asks, `account` whose share of the machine it takes (the owner's if None);
        `short` says that it is over in seconds; with `looks` it does not wait for a place where all
        that it wants is stored. Raises `RuntimeError` after `shutdown`, and while drained.
        """
        with self._lock:
            job = self._latest(key)
            if job is None or not job._reusable():
                if self._closed:
                    raise RuntimeError(f"{title} cannot start: {self._closed}")
                self._submitted += 1
                job = Job(
                    self._submitted,
                    key,
                    title,
                    work,
                    link=link,
                    progress=Progress(clock=self._clock),
                    submitted_at=self._wall_clock(),
                    short=short,
                    looks=looks,
                )
                self._jobs[job.id] = job
                self._queue.append(job)
            job._add_owner(owner, account if account is not None else owner or "")
            self._start_next()
            return job

    def get(self, key: str) -> Job[Any] | None:
        """The latest job of `key`, or None when there was none or it has been forgotten."""
        with self._lock:
            return self._latest(key)

    def jobs(self) -> list[JobView]:
        """Every job that is not forgotten, newest first."""
        with self._lock:
            jobs = sorted(self._jobs.values(), key=lambda job: -job.id)
            places = self._forecast()
        return [replace(job.view(), place=places.get(job.id)) for job in jobs]

    def view(self, job: Job[Any]) -> JobView:
        """One job with its place in the queue."""
        with self._lock:
            place = self._forecast().get(job.id)
        return replace(job.view(), place=place)

    def cancel(self, key: str, *, owner: str | None = None) -> bool:
        """Stop the job of `key` for everyone who asked for it; False when none was to be stopped.

        With an `owner`, it goes on for the others who asked for it too. A queued job is cancelled
        at once, a running one at its next `update` or `check`.
        """
        with self._lock:
            job = self._latest(key)
            if job is None or job.state.finished:
                return False
            if owner is None or not job._without(owner):
                self._cancel(job)
            return True

    @property
    def draining(self) -> bool:
        """Whether new jobs are refused."""
        return bool(self._closed)

    def drain(self, reason: str) -> None:
        """Refuse new jobs, with a sentence; those that are queued and running go on."""
        with self._lock:
            self._closed = reason

    def go_on(self) -> None:
        """Take new jobs again."""
        with self._lock:
            self._closed = ""

    def wait_all(self, timeout: float | None) -> bool:
        """Wait until no job is queued or running; whether that came within `timeout` seconds."""
        deadline = time.monotonic() + (threading.TIMEOUT_MAX / 2 if timeout is None else timeout)
        with self._lock:
            jobs = list(self._jobs.values())
        return all(job.wait(max(0.0, deadline - time.monotonic())) for job in jobs)

    def forget(self, key: str) -> None:
        """Take the finished jobs of `key` off the list, so that the next submit starts afresh."""
        with self._lock:
            for job in [job for job in self._jobs.values() if job.key == key]:
                if job.state.finished:
                    del self._jobs[job.id]

    def shutdown(self, *, timeout: float | None = None) -> bool:
        """Refuse new jobs, cancel all, wait up to `timeout` seconds; whether all have stopped."""
        with self._lock:
            self._closed = "the explorer is shutting down."
            for job in list(self._jobs.values()):
                if not job.state.finished:
                    self._cancel(job)
        return self.wait_all(timeout)

    # The methods below are called with the lock held, except _run, a worker thread, and its own.

    def _latest(self, key: str) -> Job[Any] | None:
        return max(
            (job for job in self._jobs.values() if job.key == key),
            key=lambda job: job.id,
            default=None,
        )

    def _cancel(self, job: Job[Any]) -> None:
        job.progress.cancel()
        if job in self._queue:
            self._queue.remove(job)
            job._finish(JobState.CANCELLED, self._wall_clock())
            self._forget_oldest()

    def _start_next(self) -> None:
        while (found := self._next()) is not None:
            job, quick = found
            job.quick_place = quick
            self._queue.remove(job)
            if not job.only_looks:
                self._turns.took(job.account)
            # Daemon threads: stopping the app must not wait for hours of work.
            thread = threading.Thread(
                target=self._run, args=(job,), name=f"{JOB_THREAD}{job.title}", daemon=True
            )
            with job._lock:
                job._state, job._started_at = JobState.RUNNING, self._wall_clock()
            self._running[job.id] = job
            thread.start()

    def _next(self) -> tuple[Job[Any], bool] | None:
        """The job that starts now, and whether in a quick place."""
        running = self._at_work()
        free = free_place(running, **self._places)
        waiting = self._waiting(look=all(free))
        for quick in free:
            chosen = self._turns.next(waiting, running, short_only=quick)
            if chosen is not None:
                return self._jobs[chosen.id], quick
        return None

    def _waiting(self, *, look: bool = False) -> list[Waiting]:
        usual, jobs = self._usual.of, self._queue
        return [Waiting(it.id, it.account, it.short, usual(it), look and it.looks) for it in jobs]

    def _at_work(self) -> list[Running]:
        return [
            Running(job.account, job.quick_place, self._usual.left(job, self._wall_clock()))
            for job in self._running.values()
        ]

    def _forecast(self) -> dict[int, Place]:
        if not self._queue:
            return {}
        return forecast(self._waiting(), self._at_work(), self._turns, **self._places)

    def _run(self, job: Job[Any]) -> None:
        state, result, error = JobState.CANCELLED, None, None
        try:
            result = job._do(background=self._background, yielding=self._yielding)
            state = JobState.DONE
        except NotThere:
            if self._waits_again(job):
                return
        except JobCancelled:
            log.info("Cancelled: %s", job.title)
            if job.progress.reason:
                state, error = JobState.FAILED, job.progress.reason
        except BaseException as problem:
            # Whatever it is (SystemExit too), the job must end, or it would show as running.
            log.exception("Failed: %s", job.title)
            state, error = JobState.FAILED, plain_sentence(problem)
            if is_out_of_memory(problem):
                self._after_out_of_memory(job, problem)
        with self._lock:
            job._finish(state, self._wall_clock(), result=result, error=error)
            del self._running[job.id]
            if state is JobState.DONE:
                self._usual.learn(job)
            self._forget_oldest()
            self._start_next()

    def _waits_again(self, job: Job[Any]) -> bool:
        """Back in the queue, unless it was cancelled meanwhile."""
        with self._lock:
            if job.progress.cancelled:
                return False
            del self._running[job.id]
            job._wait_again()
            self._queue.append(job)
            self._start_next()
        return True

    def _after_out_of_memory(self, job: Job[Any], problem: BaseException) -> None:
        """That job alone fails: what it held goes, and what is idle, before the next one starts."""
        traceback.clear_frames(problem.__traceback__)
        job._work = None
        try:
            self._relieve()
        except Exception:
            log.exception("Memory could not be given back after %s", job.title)

    def _forget_oldest(self) -> None:
        finished = [job for job in self._jobs.values() if job.state.finished]
        finished.sort(key=lambda job: (job._finished_at or 0.0, job.id))
        for job in finished[: max(0, len(finished) - self._keep_finished)]:
            del self._jobs[job.id]
