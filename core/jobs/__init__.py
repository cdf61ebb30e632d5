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
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from core.jobs.job import Job, JobFailed, JobState, JobView, plain_sentence
from core.jobs.progress import JobCancelled, Progress

__all__ = ["Job", "JobCancelled", "JobFailed", "JobManager", "JobState", "JobView", "Progress"]

log = logging.getLogger(__name__)
T = TypeVar("T")


class JobManager:
    """Runs jobs, at most `max_workers` at once, first come first served."""

    def __init__(
        self,
        *,
        max_workers: int = 2,
        keep_finished: int = 100,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` measures rates and `wall_clock` dates the jobs; tests pass their own."""
        if max_workers < 1 or keep_finished < 1:
            raise ValueError(
                f"max_workers is {max_workers} and keep_finished {keep_finished}; both need 1 or"
                " more."
            )
        self._max_workers, self._keep_finished = max_workers, keep_finished
        self._clock, self._wall_clock = clock, wall_clock
        self._lock = threading.Lock()
        self._jobs: dict[int, Job[Any]] = {}
        self._queue: deque[Job[Any]] = deque()
        self._running: dict[int, threading.Thread] = {}
        self._submitted = 0
        self._closed = False

    def submit(
        self,
        key: str,
        title: str,
        work: Callable[[Progress], T],
        *,
        owner: str | None = None,
        link: str | None = None,
    ) -> Job[T]:
        """The job of `key`: the one queued, running or done, else a new one that runs `work`.

        `work` reports through its `Progress` and should call `check` or `update` often, for that
        is where it can be cancelled. It must not wait for another job: all workers may be waiting.
        Raises `RuntimeError` after `shutdown`.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{title} cannot start: the explorer is shutting down.")
            job = self._latest(key)
            if job is None or not job._reusable():
                self._submitted += 1
                job = Job(
                    self._submitted,
                    key,
                    title,
                    work,
                    link=link,
                    progress=Progress(clock=self._clock),
                    submitted_at=self._wall_clock(),
                )
                self._jobs[job.id] = job
                self._queue.append(job)
            job._add_owner(owner)
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
        return [job.view() for job in jobs]

    def cancel(self, key: str) -> bool:
        """Stop the job of `key` for everyone who asked for it; False when none was to be stopped.

        A queued job is cancelled at once, a running one at its next `update` or `check`.
        """
        with self._lock:
            job = self._latest(key)
            if job is None or job.state.finished:
                return False
            self._cancel(job)
            return True

    def forget(self, key: str) -> None:
        """Take the finished jobs of `key` off the list, so that the next submit starts afresh."""
        with self._lock:
            for job in [job for job in self._jobs.values() if job.key == key]:
                if job.state.finished:
                    del self._jobs[job.id]

    def shutdown(self, *, timeout: float | None = None) -> bool:
        """Refuse new jobs, cancel all, wait up to `timeout` seconds; whether all have stopped."""
        with self._lock:
            self._closed = True
            for job in list(self._jobs.values()):
                if not job.state.finished:
                    self._cancel(job)
            jobs = list(self._jobs.values())
        deadline = None if timeout is None else time.monotonic() + timeout
        return all(
            job.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            for job in jobs
        )

    # The methods below are called with the lock held, except _run, a worker thread.

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
        while self._queue and len(self._running) < self._max_workers:
            job = self._queue.popleft()
            # Daemon threads: stopping the app must not wait for hours of work.
            thread = threading.Thread(
                target=self._run, args=(job,), name=f"job-{job.id}", daemon=True
            )
            with job._lock:
                job._state, job._started_at = JobState.RUNNING, self._wall_clock()
            self._running[job.id] = thread
            thread.start()

    def _run(self, job: Job[Any]) -> None:
        state, result, error = JobState.CANCELLED, None, None
        try:
            job.progress.check()
            work = job._work
            if work is not None:
                result = work(job.progress)
                state = JobState.DONE
        except JobCancelled:
            log.info("Cancelled: %s", job.title)
        except BaseException as problem:
            # Whatever it is (SystemExit too), the job must end, or it would show as running.
            log.exception("Failed: %s", job.title)
            state, error = JobState.FAILED, plain_sentence(problem)
        with self._lock:
            job._finish(state, self._wall_clock(), result=result, error=error)
            del self._running[job.id]
            self._forget_oldest()
            self._start_next()

    def _forget_oldest(self) -> None:
        finished = [job for job in self._jobs.values() if job.state.finished]
        finished.sort(key=lambda job: (job._finished_at or 0.0, job.id))
        for job in finished[: max(0, len(finished) - self._keep_finished)]:
            del self._jobs[job.id]
