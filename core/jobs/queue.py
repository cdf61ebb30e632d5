"""Whose job is next: fair between people, and nobody's short work waits for anybody's long work.

There are two kinds of places. Any job may take a general one; a quick place takes short work alone
(a text that somebody typed), so that it never waits for a batch. While no general place is free, it
also lets a job look whether its result is stored; one that has to be computed waits on. Where a
place is free, the turn goes to the account with the fewest jobs running and, of those, to the one
whose last turn was longest ago. Of the jobs of one account the short ones go first, and else the
oldest.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

UNKNOWN = 1e15
"""Seconds that stand for "nobody can tell"."""


@dataclass(frozen=True)
class Waiting:
    """A job in the queue."""

    id: int
    """Number of the job; later ones are larger."""
    account: str
    """Whose job it is."""
    short: bool = False
    """Whether it is over in seconds and somebody waits for it in front of a page."""
    seconds: float = UNKNOWN
    """How long it will take."""
    looks: bool = False
    """Whether it may look in a quick place now."""


@dataclass(frozen=True)
class Running:
    """A job that has a place."""

    account: str
    """Whose job it is."""
    quick: bool
    """Whether its place is a quick one."""
    seconds_left: float = UNKNOWN
    """How long it will still take."""


@dataclass(frozen=True)
class Place:
    """Where a job stands in the queue."""

    number: int
    """1 for the next one to start."""
    seconds: float | None
    """To its start; None where nobody can tell."""


@dataclass
class Turns:
    """When each account had its last turn."""

    last: dict[str, int] = field(default_factory=dict)
    """By account, a number that grows with every turn."""
    count: int = 0
    """Turns so far."""

    def next(
        self, waiting: Sequence[Waiting], running: Sequence[Running], *, short_only: bool
    ) -> Waiting | None:
        """The job whose turn it is; None where none may start."""
        fit = [it for it in waiting if it.short or it.looks or not short_only]
        n_running: dict[str, int] = {}
        for job in running:
            n_running[job.account] = n_running.get(job.account, 0) + 1

        def rank(job: Waiting) -> tuple[int, int, bool, int]:
            turns = (n_running.get(job.account, 0), self.last.get(job.account, 0))
            return (*turns, not job.short, job.id)

        return min(fit, key=rank, default=None)

    def took(self, account: str) -> None:
        """An account had its turn."""
        self.count += 1
        self.last[account] = self.count

    def copy(self) -> "Turns":
        """The same, for playing out what will happen."""
        return Turns(dict(self.last), self.count)


def free_place(running: Sequence[Running], *, general: int, quick: int) -> list[bool]:
    """The kinds of places that are free (True: quick), in the order in which they are filled."""
    taken = sum(it.quick for it in running)
    return [True] * (taken < quick) + [False] * (len(running) - taken < general)


def forecast(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    turns: Turns,
    *,
    general: int,
    quick: int,
) -> dict[int, Place]:
    """The place of each waiting job by its number, found by playing the queue out."""
    turns, left, places = turns.copy(), list(waiting), dict[int, Place]()
    now, order = 0.0, 0
    active = list(running)
    ends: list[tuple[float, int, Running]] = []
    for job in active:
        order += 1
        heapq.heappush(ends, (job.seconds_left, order, job))
    while left:
        started = False
        for is_quick in free_place(active, general=general, quick=quick):
            job_next = turns.next(left, active, short_only=is_quick)
            if job_next is None:
                continue
            left.remove(job_next)
            turns.took(job_next.account)
            places[job_next.id] = Place(len(places) + 1, None if now >= UNKNOWN else now)
            taken = Running(job_next.account, is_quick)
            active.append(taken)
            order += 1
            heapq.heappush(ends, (now + job_next.seconds, order, taken))
            started = True
            break
        if not started:
            now, _, over = heapq.heappop(ends)
            active.remove(over)
    return places
