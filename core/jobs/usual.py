"""How long jobs of a kind take here, learnt from those that ran."""

from core.jobs.job import Job
from core.jobs.queue import UNKNOWN


class UsualSeconds:
    """Seconds by kind of job, the last ones counting most; the kind is what stands before the
    first colon of a job's key, whatever it is done to."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def learn(self, job: "Job[object]") -> None:
        """A job has ended well."""
        if job._started_at is None or job._finished_at is None:
            return
        taken, kind = job._finished_at - job._started_at, _kind(job.key)
        before = self._seconds.get(kind, taken)
        self._seconds[kind] = (before + taken) / 2

    def of(self, job: "Job[object]") -> float:
        """Seconds that a job will take; `UNKNOWN` where nobody can tell."""
        return self._seconds.get(_kind(job.key), UNKNOWN)

    def left(self, job: "Job[object]", now: float) -> float:
        """Seconds that a running job still takes, as it says itself or as others of its kind."""
        progress, usual = job.progress.view(), self._seconds.get(_kind(job.key))
        known = [] if progress.eta_seconds is None else [progress.eta_seconds]
        if usual is not None and job._started_at is not None and not (progress.planned and known):
            # The end of a step is not that of the whole.
            known.append(max(0.0, usual - (now - job._started_at)))
        return max(known, default=UNKNOWN)


def _kind(key: str) -> str:
    return key.partition(":")[0]
