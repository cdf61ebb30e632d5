"""Long jobs that a server had under way when it ended, however it ended.

What is queued and running is written to the store as it changes. A server that is killed leaves its
list behind; the next one, or another on the same store, finds that nobody holds the lock of its
name and offers what is on it as interrupted.

They are not started again by themselves. What somebody may do, whose share it takes and which key
pays is known when they ask, not from a file; and a job that took the memory of the whole machine
would take it again at every start. Each has a link to the page that asked for it, where it goes on
from what was kept.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.jobs import JobManager, JobState, JobView
from core.store import JSON, Key, Store, StoreError
from core.store.alone import alone_with
from core.store.process_lock import file_lock, is_held

log = logging.getLogger(__name__)

TICK_SECONDS = 2.0
"""How often the list is looked at; what began later than that before a kill is forgotten."""
KEPT_SECONDS = 7 * 86_400.0
"""How long an interrupted job is offered: as long as the passes that it goes on from are kept."""
_KEY = Key("jobs-under-way", 1, {})
_STEPS = 10
"""How far a job is is written down anew each tenth."""
_NAME = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Interrupted:
    """A job that did not end."""

    key: str
    """What it computes."""
    title: str
    """In words."""
    link: str
    """The page that asked for it; "" where there is none."""
    owners: tuple[str, ...]
    """Who asked for it; nobody on an explorer of one person."""
    fraction: float | None
    """Share that was done when it was last looked at."""
    at: float
    """When that was, Unix time in seconds."""


class UnderWay:
    """Keeps the list of one server's jobs in the store, and knows those of servers that ended."""

    def __init__(
        self,
        store: Store,
        manager: JobManager,
        *,
        tick: float = TICK_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tick` in seconds and `clock` (seconds since the epoch): tests pass their own."""
        self._store, self._manager, self._tick, self._clock = store, manager, tick, clock
        self._name = uuid.uuid4().hex
        self._alive: ExitStack | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._written: list[tuple[str, int]] = []

    def start(self) -> None:
        """Begin to keep the list; once."""
        with self._lock:
            if self._alive is not None:
                return
            self._alive = ExitStack()
            try:
                self._alive.enter_context(file_lock(self._lock_file(self._name)))
            except OSError:
                log.exception("What is under way cannot be kept over a restart")
                return
        threading.Thread(target=self._run, name="under way", daemon=True).start()

    def look(self) -> None:
        """Write the list if it is another than before; nothing once the server ends."""
        with self._lock:
            if not self._ending.is_set():
                self._look()

    def freeze(self) -> None:
        """Jobs are stopped from now on because the server ends: they stay on the list."""
        with self._lock:
            if self._ending.is_set():
                return
            self._ending.set()
            try:
                self._look()
            except (StoreError, OSError, ValueError):
                log.exception("What is under way could not be written down")

    def close(self) -> None:
        """The server has ended; what came to its end meanwhile goes off the list."""
        self.freeze()
        with self._lock:
            done = {view.key for view in self._manager.jobs() if view.state is JobState.DONE}
            try:
                if done & {key for key, _ in self._written}:
                    self._change({}, without=done)
            except (StoreError, OSError, ValueError):
                log.exception("What has ended could not be taken off the list")
            if self._alive is not None:
                self._alive.close()

    def interrupted(self) -> list[Interrupted]:
        """What servers had under way that have ended, newest first."""
        asked = {view.key for view in self._manager.jobs()}
        return sorted((it for it in self._ended() if it.key not in asked), key=lambda it: -it.at)

    def forget(self, key: str) -> None:
        """Nobody wants an interrupted job any more."""
        with self._lock:
            self._change({}, without={key})

    def _look(self) -> None:
        views = [view for view in self._manager.jobs() if not view.short]
        active = [view for view in views if not (view.state.finished or view.cancelling)]
        state = [(view.key, round(_STEPS * (view.fraction or 0.0))) for view in active]
        again = {view.key for view in views} & {it.key for it in self._ended()}
        if state == self._written and not again:
            return
        self._change({self._name: [asdict(self._entry(it)) for it in active]}, without=again)
        self._written = state

    def _run(self) -> None:
        while not self._ending.wait(self._tick):
            try:
                self.look()
            except (StoreError, OSError, ValueError):
                log.exception("What is under way could not be written down")

    def _entry(self, view: JobView) -> Interrupted:
        link, owners = view.link or "", tuple(it for it in view.owners if it)
        return Interrupted(view.key, view.title, link, owners, view.fraction, self._clock())

    def _ended(self) -> list[Interrupted]:
        oldest = self._clock() - KEPT_SECONDS
        found: dict[str, Interrupted] = {}
        for server, jobs in self._lists().items():
            if server == self._name or is_held(self._lock_file(server)):
                continue
            for it in _entries(jobs):
                if it.at >= oldest and (it.key not in found or found[it.key].at < it.at):
                    found[it.key] = it
        return list(found.values())

    def _lists(self) -> dict[str, Any]:
        found = self._store.get(_KEY, JSON, paid=True)
        lists = found if isinstance(found, dict) else {}
        return {name: jobs for name, jobs in lists.items() if _NAME.fullmatch(name)}

    def _change(self, new: dict[str, Any], *, without: Iterable[str]) -> None:
        """Write the lists anew: `new` ones, and what is left of those of servers that ended."""
        gone, oldest = set(without), self._clock() - KEPT_SECONDS
        with alone_with(self._store, "under-way"):
            lists = self._lists() | new
            for server in list(lists):
                jobs = lists[server]
                if server not in new:
                    kept = [it for it in _entries(jobs) if it.key not in gone and it.at >= oldest]
                    lists[server] = [asdict(it) for it in kept]
                if not lists[server]:
                    del lists[server]
            self._store.put(_KEY, lists, JSON, paid=True)

    def _lock_file(self, server: str) -> Path:
        return self._store.directory / "locks" / f"server-{server}.lock"


def _entries(jobs: Any) -> Sequence[Interrupted]:
    """Entries of one list; what is none, of a file that somebody changed, is left out."""
    found = []
    for it in jobs if isinstance(jobs, list) else []:
        try:
            found.append(
                Interrupted(**{**it, "owners": tuple(it["owners"]), "at": float(it["at"])})
            )
        except (TypeError, KeyError, ValueError):
            continue
    return found
