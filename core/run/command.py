"""`python -m core.run`: what it costs, a question, the work, what came out."""

import argparse
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import psutil

from core.device import format_bytes, memory_free
from core.jobs.job import plain_sentence
from core.jobs.progress import JobCancelled, Progress
from core.run.arguments import parser
from core.run.bar import with_bar
from core.run.cost import Cost, peak_memory
from core.run.task import Task
from core.shell import Machine, this_machine
from core.store import DEFAULT_LIMIT_BYTES
from core.usual_time import in_short

DONE, FAILED, BAD_INPUT, CANCELLED = 0, 1, 2, 130
"""Exit codes."""
_SPARE_DISK = 500_000_000
"""Bytes that must stay free."""
_KEPT = "Cancelled; what was done is kept, and the same command goes on from there.\n"

log = logging.getLogger(__name__)


def main(
    arguments: Sequence[str] | None = None,
    *,
    machine: Callable[[], Machine] = this_machine,
    ask: Callable[[], bool] | None = None,
) -> int:
    """Run a command and return its exit code; tests give a machine, and answers to questions."""
    options = parser().parse_args(arguments)
    if not getattr(options, "verbose", False):
        logging.basicConfig(level=logging.ERROR)
        _quiet_libraries()
    here = machine()
    try:
        if options.command == "list":
            return _list(here, hub=options.hub)
        return _run(options, here, ask or _asked)
    except (JobCancelled, KeyboardInterrupt):
        sys.stderr.write(_KEPT)
        return CANCELLED
    except BrokenPipeError:  # whoever read what is written has read enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    finally:
        here.close()


def _run(options: argparse.Namespace, machine: Machine, ask: Callable[[], bool]) -> int:
    from core.run.tasks import task_of

    yes, only = options.yes, options.estimate
    try:
        task = task_of(options, machine)
        sys.stdout.write(f"{task.title}\n")
        made = task.is_made()
        if made:
            sys.stdout.write("It was computed before: it costs nothing.\n")
            if only:
                return DONE
        else:
            code = _before(task, yes=yes, only=only, ask=ask)
            if code is not None:
                return code
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return _say(error, BAD_INPUT)
    began = time.monotonic()
    try:
        with peak_memory() as peak:
            lines = with_bar(task.run, title=task.title)
    except JobCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, a sentence says so
        return _say(error, FAILED)
    took = (
        f"Took {in_short(time.monotonic() - began)} and at most {format_bytes(peak())} of memory."
    )
    sys.stdout.write("\n".join([*lines, took]) + "\n")
    return DONE


def _before(task: Task, *, yes: bool, only: bool, ask: Callable[[], bool]) -> int | None:
    """Say what it costs and ask; an exit code where it ends there, None to go on."""
    from core.view.loading import plan_all

    engine, names = task.machine.engine, [entry.key for entry in task.entries]

    plan = with_bar(
        lambda progress: plan_all(engine, task.machine.catalog, task.model, names, progress)
    )
    if plan.problem is not None:
        raise ValueError(plan.problem)
    if not plan.complete:
        sys.stdout.write(
            f"Download  {format_bytes(plan.bytes_to_download)} of weights first; what the rest "
            "costs is measured once they are here.\n"
        )
        if only:
            return DONE
        if not (yes or ask()):
            return CANCELLED
    with_bar(lambda progress: _load(task, progress))
    cost = with_bar(task.estimate, title="Measuring on a first part")
    sys.stdout.write("\n".join(cost.lines()) + "\n")
    problem = _no_room(task, cost)
    if problem is not None:
        raise ValueError(problem)
    if only:
        return DONE
    if not (yes or ask()):
        sys.stderr.write("Nothing was begun.\n")
        return CANCELLED
    return None


def _load(task: Task, progress: Progress) -> None:
    names = [entry.key for entry in task.entries]
    with task.machine.engine.lease(task.model, names, progress=progress).turn():
        pass


def _no_room(task: Task, cost: Cost) -> str | None:
    folder = task.machine.store.directory
    free = shutil.disk_usage(folder).free
    if cost.disk + _SPARE_DISK > free:
        return (
            f"This needs about {format_bytes(cost.disk)} on the disk of {folder}, which has "
            f"{format_bytes(free)} free ({format_bytes(_SPARE_DISK)} must stay free); free some, "
            "or set SAE_EXPLORER_CACHE to a folder on a larger disk."
        )
    if cost.store > DEFAULT_LIMIT_BYTES:
        return (
            f"This makes about {format_bytes(cost.store)} of results, and the store keeps the "
            f"latest {format_bytes(DEFAULT_LIMIT_BYTES)}; choose fewer SAEs at a time."
        )
    room = memory_free("cpu")
    if cost.memory > room + _resident():
        return (
            f"This needs about {format_bytes(cost.memory)} of memory, and "
            f"{format_bytes(room + _resident())} can be had; choose fewer or narrower SAEs."
        )
    return None


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _asked() -> bool:
    if not sys.stdin.isatty():
        raise ValueError(
            "There is nobody to ask: add --yes to begin, or --estimate to see the cost alone."
        )
    sys.stdout.write("Begin? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _list(machine: Machine, *, hub: bool) -> int:
    _, listing = machine.catalog.everything(hub=hub)
    for release, entries in listing:
        sys.stdout.write(f"{release.release}  (model {release.model})\n")
        for entry in entries:
            width = "" if entry.width is None else f"  {entry.width:,} latents"
            problem = "" if entry.problem is None else f"  cannot be used: {entry.problem}"
            sys.stdout.write(f"  {entry.sae_id}{width}{problem}\n")
    return DONE


def _say(error: Exception, code: int) -> int:
    sentence = plain_sentence(error)
    if not isinstance(error, ValueError | OSError):
        log.error("".join(traceback.format_exception(error)))
    sys.stderr.write(f"{sentence}\n")
    return code


def _quiet_libraries() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
