"""Servers and workers that are killed at every stage of their jobs: nothing complete is lost.

python -m benchmarks.kills [number of kills] [--worker]

The jobs run on planted models against a chat service on this machine. A first server is left alone:
it says which stages there are, and what comes out. Then one server after the other is killed
(SIGKILL: nothing is tidied up) at some stage of some job, or its worker process is, twice a job;
the last one on a folder is left to end. Its results must be those of the first, what was complete
must be had without computing, and no question whose answer was kept may be sent again. With
`--worker` it is always the worker process, at each stage at which there is one, at random moments.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.kill_jobs import JOBS, RUNNER, TICK, Found, Kill, serve
from core.hosting.spending import Ledger
from core.store import Store
from tests.demo_bundle import write_demo
from tests.loopback_openai import LoopbackOpenAI, loopback_openai

_PATIENCE = 120.0
_ANSWER_SECONDS = 0.02
_PRICE = 100 * 1e-6 * 1.0 + 10 * 1e-6 * 2.0
"""Dollars of one answer of the loopback service, at the prices of the policy."""
_YOUNG = 20
"""Ticks after which a job must have been written down."""


@dataclass
class Life:
    """One server, from its start to its end."""

    said: list[tuple[str, str]] = field(default_factory=list)
    """Jobs, and what they said."""
    in_worker: set[tuple[str, str]] = field(default_factory=set)
    """Those of them that were said when there was a worker process."""
    found: dict[str, Found] = field(default_factory=dict)
    """Results of the jobs that were done."""
    interrupted: list[str] = field(default_factory=list)
    """Jobs that it offered at its start."""
    stored: dict[str, str] | None = None
    """What a reader lacked of each job; None where it did not come so far."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Jobs that failed, and why."""
    killed: float | None = None
    """Seconds that the job had run when the kill came; None where it did not come about."""
    cpu_seconds: float = 0.0
    """What a server that ended took of the processor."""


@dataclass
class Outcome:
    """What many kills came to."""

    kills: Counter[str] = field(default_factory=Counter)
    """By job, and of whom."""
    stages: set[tuple[str, str]] = field(default_factory=set)
    """Jobs, and what they said when they were killed."""
    all_stages: set[tuple[str, str]] = field(default_factory=set)
    """All that were there."""
    not_offered: list[str] = field(default_factory=list)
    """Jobs that were cut off and not offered as interrupted afterwards."""
    lost: list[str] = field(default_factory=list)
    """Jobs of which something complete would have been computed again."""
    different: list[str] = field(default_factory=list)
    """Results that are not those of the server that was left alone."""
    failures: Counter[str] = field(default_factory=Counter)
    """What readers were told of jobs whose worker was killed."""
    questions: int = 0
    """Questions that were sent, each counted once."""
    again: int = 0
    """Questions that were sent once more."""
    on_their_way: int = 0
    """Questions that a killed server had noted without an answer: the next one says so."""
    uncharged: float = 0.0
    """Dollars that the service took beyond what the account was charged."""
    seconds: float = 0.0
    """How long all took."""

    @property
    def paid_twice(self) -> int:
        """Questions that were sent again although nothing said that they were on their way."""
        return max(0, self.again - self.on_their_way)


def kill_all(
    n: int,
    folder: Path,
    *,
    jobs: Sequence[str] = JOBS,
    seed: int = 0,
    only_workers: bool = False,
) -> Outcome:
    """`n` kills, two of each job on a folder, then on another; all stages are come by in turn.

    With `only_workers` the server stays, and only stages at which it has a worker count.
    """
    began, demo, outcome = time.monotonic(), write_demo(folder / "demo"), Outcome()
    chance = random.Random(seed)
    with loopback_openai() as service:
        service.reply = _reply
        service.delay_seconds = _ANSWER_SECONDS
        alone = live(folder / "alone", demo, service, jobs)
        outcome.all_stages = set(alone.said)
        if only_workers:
            outcome.all_stages = alone.in_worker
            jobs = [job for job in jobs if any(job == it for it, _ in alone.in_worker)]
        of_worker = _worker_turns if only_workers else _turns
        turns = {job: of_worker(job, alone, chance) for job in jobs}
        for number in range(2 * n):
            if outcome.kills.total() >= n:
                break
            world, left = folder / f"killed-{number}", n - outcome.kills.total()
            kills = [next(turns[job]) for job in jobs for _ in range(2)][:left]
            service.requests.clear()
            _one_world(world, demo, service, jobs, kills, alone, outcome)
            _count_questions(outcome, service, world)
    outcome.seconds = time.monotonic() - began
    return outcome


def _turns(job: str, alone: Life, chance: random.Random) -> Iterator[Kill]:
    """Kills at what a job says, one message after the other, each time at another place."""
    counts = Counter(message for of, message in alone.said if of == job)
    while True:
        for message, n in counts.most_common():
            yield Kill(job, message, chance.randrange(n))
            # The worker, where it has one, or again the server that goes on.
            yield Kill(job, message, worker=(job, message) in alone.in_worker)


def _worker_turns(job: str, alone: Life, chance: random.Random) -> Iterator[Kill]:
    counts = Counter(message for of, message in alone.said if (of, message) in alone.in_worker)
    own = [message for message in counts if (job, message) in alone.in_worker]
    while True:
        for message in own:
            yield Kill(job, message, chance.randrange(counts[message]), worker=True)


def _one_world(
    world: Path,
    demo: Path,
    service: LoopbackOpenAI,
    jobs: Sequence[str],
    kills: Sequence[Kill],
    alone: Life,
    outcome: Outcome,
) -> None:
    cut_off = ""
    for kill in [*kills, None]:
        life = live(world, demo, service, jobs, kill)
        if cut_off and f"{cut_off}:1" not in life.interrupted:
            outcome.not_offered.append(cut_off)
        outcome.different += [
            job for job, found in life.found.items() if not _same(found, alone.found[job])
        ]
        outcome.failures.update(why for _, why in life.failed)
        cut_off = ""
        if kill is not None and life.killed is not None:
            outcome.kills[f"{kill.job}, {'worker' if kill.worker else 'server'}"] += 1
            outcome.stages.add((kill.job, kill.message))
            if not kill.worker:
                cut_off = kill.job if life.killed > _YOUNG * TICK else ""
                asked = world / "cache" / "asked"
                outcome.on_their_way += len(list(asked.iterdir())) if asked.exists() else 0
    lacking = life.stored if life.stored is not None else {"all": "the last server did not end"}
    outcome.lost += [f"{job}: {why}" for job, why in lacking.items() if why]


def _count_questions(outcome: Outcome, service: LoopbackOpenAI, world: Path) -> None:
    counts = Counter(str(body["messages"]) for body in service.questions())
    outcome.questions += len(counts)
    outcome.again += counts.total() - len(counts)
    store = Store(world / "cache")
    used = Ledger(store).used(RUNNER.account).get("dollars", 0.0)
    outcome.uncharged += max(0.0, counts.total() * _PRICE - used - 1e-9)
    store.close()


def live(
    folder: Path,
    demo: Path,
    service: LoopbackOpenAI,
    jobs: Sequence[str],
    kill: Kill | None = None,
) -> Life:
    """One server on `folder` until it ends or is killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.kill_jobs"])
    ours, theirs = context.Pipe(duplex=False)
    arguments = (folder, demo, service.url, theirs, tuple(jobs), kill)
    process = context.Process(target=serve, args=arguments)
    process.start()
    theirs.close()
    life, deadline = Life(), time.monotonic() + _PATIENCE
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            kind, *rest = ours.recv()
            if kind == "said":
                life.said.append((rest[0], rest[1]))
                if rest[2]:
                    life.in_worker.add((rest[0], rest[1]))
            elif kind == "done":
                life.found[rest[0]] = rest[1]
            elif kind == "failed":
                life.failed.append((rest[0], rest[1]))
            else:
                setattr(life, kind, rest[0])
        raise TimeoutError(f"A server did not end within {_PATIENCE:g} s.")
    except EOFError:
        process.join(_PATIENCE)
    finally:
        process.kill()
        ours.close()
    return life


def _reply(body: dict[str, object]) -> str:
    scoring = "numbered texts" in str(body["messages"])
    return "1, 2" if scoring else "This neuron activates on some words."


def _same(found: Found, expected: Found) -> bool:
    return found.keys() == expected.keys() and all(
        np.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, equal_nan=True)
        if np.issubdtype(found[name].dtype, np.floating)
        else np.array_equal(found[name], expected[name])
        for name in expected
    )


def described(it: Outcome) -> str:
    """What came of the kills, in lines."""
    said = it.again - it.paid_twice
    return "\n".join(
        (
            f"{it.kills.total()} kills in {it.seconds:.0f} s: {dict(it.kills)}",
            f"Stages that were hit: {len(it.stages)} of {len(it.all_stages)}",
            f"Cut off and not offered as interrupted: {it.not_offered or 0}",
            f"Complete and lost: {it.lost or 0}; different results: {it.different or 0}",
            f"Questions: {it.questions}; sent again and said so: {said}; paid twice: "
            f"{it.paid_twice}; dollars not charged: {it.uncharged:.4f}",
            f"Said of killed workers: {dict(it.failures)}",
        )
    )


def main() -> None:
    """Print what came of the kills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=50, help="how many")
    parser.add_argument("--worker", action="store_true", help="only worker processes are killed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_all(given.kills, Path(folder), only_workers=given.worker)
        sys.stdout.write(described(outcome) + "\n")


if __name__ == "__main__":
    main()
