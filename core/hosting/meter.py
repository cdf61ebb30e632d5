"""What running jobs use, written down as they go: a server that is killed has charged for it."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from core.hosting.spending import Ledger, QuotaSpent
from core.jobs import Progress
from core.store import StoreError

log = logging.getLogger(__name__)

TICK_SECONDS = 5.0
"""How often use is written down; what a killed server forgets is at most this."""


@dataclass(eq=False)
class _Metered:
    """One running job."""

    account: str
    progress: Progress
    limits: Mapping[str, float]
    began: float
    most_seconds: float
    charged: float = 0.0
    kept: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Meter:
    """Charges accounts for seconds and bytes, and stops what goes beyond its share."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        tick: float = TICK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tick` and `clock` in seconds; tests pass their own."""
        self._ledger, self._tick, self._clock = ledger, tick, clock
        self._lock = threading.Lock()
        self._jobs: list[_Metered] = []
        self._thread: threading.Thread | None = None

    @contextmanager
    def running(
        self,
        account: str,
        progress: Progress,
        limits: Mapping[str, float],
        *,
        most_seconds: float = math.inf,
    ) -> Iterator[Callable[[int], None]]:
        """Charge `account` until the block ends; yields what counts the bytes that are kept.

        `limits` are those of the day. A job that takes longer than `most_seconds` is stopped.
        """
        job = _Metered(account, progress, limits, self._clock(), most_seconds)
        with self._lock:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
                self._thread.start()

        def count(n_bytes: int) -> None:
            with job.lock:
                job.kept += n_bytes

        try:
            yield count
        finally:
            with self._lock:
                self._jobs.remove(job)
            self._charge(job)

    def _run(self) -> None:
        while True:
            time.sleep(self._tick)
            with self._lock:
                jobs = list(self._jobs)
                if not jobs:
                    self._thread = None
                    return
            for job in jobs:
                self._charge(job)

    def _charge(self, job: _Metered) -> None:
        """Write down what a job has used since the last time."""
        with job.lock:
            taken = self._clock() - job.began
            amounts = {"compute_seconds": taken - job.charged, "store_bytes": float(job.kept)}
            job.charged, job.kept = taken, 0
        if taken > job.most_seconds:
            job.progress.cancel(
                "This has not been computed on this server yet and takes longer than the "
                f"{job.most_seconds:g} s that you may have; ask somebody who may start "
                "computations."
            )
        try:
            try:
                self._ledger.reserve(job.account, job.limits, **amounts)
            except QuotaSpent as spent:
                # It was used, so it counts; and nothing more of it is to be had today.
                self._ledger.reserve(job.account, {}, **amounts)
                job.progress.cancel(str(spent))
        except (StoreError, OSError):
            log.exception("What a job used could not be written down; it is stopped")
            job.progress.cancel(
                "The server cannot write down what computations use, so it stops them; tell its "
                "administrator that the store refuses."
            )
