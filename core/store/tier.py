"""One folder of the store: opens its database, survives damage to it, keeps to its size.

There are two kinds. A tier of recomputable results evicts what was not used for longest and is
rebuilt empty when its database is lost. A tier of paid answers never evicts, keeps each value in a
file of its own, and rebuilds a lost database from those files.
"""

import errno
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import diskcache
from diskcache.core import DEFAULT_SETTINGS

from core.store.disk import DATABASE, SafeCache, SafeDisk, database_is_sound
from core.store.frame import DamagedEntry, pack
from core.store.process_lock import file_lock

log = logging.getLogger(__name__)
T = TypeVar("T")

_BUSY_SECONDS = 60
_REMEDY = "check the disk's free space and the folder's permissions"
_ABANDONED_SECONDS = 3600
_RESULTS_FILE_THRESHOLD = 1 << 15


class StoreError(RuntimeError, ValueError):
    """The store cannot keep a value: disk full, folder not writable, or the value too large."""


class TooLarge(StoreError):
    """The value is larger than all results together may be."""


@dataclass(frozen=True)
class TierUsage:
    """How full one tier is."""

    entries: int
    """Number of stored values."""
    bytes: int
    """Bytes on disk, database included."""
    limit_bytes: int | None
    """Bytes above which the least recently used values go; None: never."""


class Tier:
    """Framed values by name in `folder`, shared by any number of threads and processes."""

    def __init__(self, folder: Path, *, lock: Path, limit_bytes: int | None) -> None:
        """Open or create `folder`; `limit_bytes=None` makes a tier of paid answers.

        Raises `StoreError` or `sqlite3.Error` when the folder cannot hold a database.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = lock
        self._open()

    @property
    def paid(self) -> bool:
        """Whether values here cost money: never evicted, written through to the disk."""
        return self.limit_bytes is None

    def get(self, name: str) -> bytes | None:
        """Value of `name`, or None when there is none or it is damaged (it is then removed)."""
        keep_in = self.folder / "damaged" if self.paid else None
        try:
            try:
                return self._attempt(lambda cache: cache.read(name))
            except DamagedEntry as damage:
                log.warning("The stored value %s in %s is damaged: %s", name, self.folder, damage)
                return self._attempt(lambda cache: cache.read_or_remove(name, keep_in=keep_in))
        except StoreError as error:
            # A read that cannot be counted as a use (disk full, read-only) is only a miss.
            log.warning("%s", error)
            return None

    def has(self, name: str) -> bool:
        """Whether there is a value of `name`, whole or not."""
        try:
            return self._attempt(lambda cache: name in cache)
        except StoreError as error:
            log.warning("%s", error)
            return False

    def put(self, name: str, value: bytes, *, owner: str | None = None) -> None:
        """Keep `value`, replacing what `name` held; raises `StoreError`.

        `owner` says whose it is (`owned`); nobody's if None.
        """
        framed = pack(name, value)
        if self.limit_bytes is not None and len(framed) > self.limit_bytes:
            raise TooLarge(
                f"A result of {len(framed):,} bytes does not fit in the store's limit of"
                f" {self.limit_bytes:,} bytes; raise size_limit_bytes."
            )
        limit = self.limit_bytes
        if limit is None:
            # Opening a paid tier adopts value files without a row; it must not meet half a write.
            with self._alone():
                self._attempt(lambda cache: cache.set(name, framed, tag=owner), locked=True)
        else:
            self._attempt(lambda cache: cache.set(name, framed, tag=owner))
            self._attempt(lambda cache: cache.evict_oldest(limit=limit, keep=name))

    def make_room(self, n_bytes: int) -> int:
        """Forget the results used least recently until `n_bytes` are free; how many went."""
        return self._attempt(
            lambda cache: cache.evict_oldest(limit=max(0, cache.volume() - n_bytes), keep="")
        )

    def remove(self, name: str) -> None:
        """Forget `name`, if it is there."""
        self._attempt(lambda cache: cache.delete(name))

    def owned(self, low: str, high: str) -> dict[str, TierUsage]:
        """What is kept, by owner; of those from `low` to before `high` in the alphabet."""
        found = self._attempt(lambda cache: cache.owned(low, high))
        return {owner: TierUsage(*figures, self.limit_bytes) for owner, figures in found.items()}

    def remove_owned(self, owner: str) -> int:
        """Forget everything of an owner; the bytes that are free again."""
        return self._attempt(lambda cache: cache.remove_owned(owner))

    def clear(self) -> int:
        """Forget every value; the number there was."""
        return self._attempt(lambda cache: cache.clear())

    def usage(self) -> TierUsage:
        """How full this tier is now."""
        entries, size = self._attempt(lambda cache: (len(cache), cache.volume()))
        return TierUsage(entries=entries, bytes=size, limit_bytes=self.limit_bytes)

    def close(self) -> None:
        """Close the connections that nobody works with; the next use opens another."""
        self._cache.close()

    def _attempt(self, operation: Callable[[SafeCache], T], *, locked: bool = False) -> T:
        """`operation` on the database, once more after recovery if the database is damaged."""
        try:
            if self._inode != _inode(self.folder / DATABASE):
                self._open(locked=locked)  # moved aside by another process, or the folder deleted
            try:
                return self._with_connection(operation)
            except sqlite3.DatabaseError as error:
                log.warning("The store in %s failed (%s); opening it again", self.folder, error)
            self._cache.close()
            self._open(locked=locked)
            return self._with_connection(operation)
        except diskcache.Timeout as error:
            raise StoreError(
                f"The store in {self.folder} cannot be written, or was busy for"
                f" {_BUSY_SECONDS} s; {_REMEDY}."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"The store in {self.folder} failed ({error}); {_REMEDY}.") from error

    def _with_connection(self, operation: Callable[[SafeCache], T]) -> T:
        cache = self._cache
        with cache.borrowed():
            return operation(cache)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            # The folder may have been deleted under a running explorer.
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_lock(self._lock):
                yield
        except OSError as error:
            raise StoreError(f"The store in {self.folder} failed ({error}); {_REMEDY}.") from error

    def _open(self, *, locked: bool = False) -> None:
        with nullcontext() if locked else self._alone():
            self._open_alone()

    def _open_alone(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        database = self.folder / DATABASE
        if database.exists() and not database_is_sound(database):
            self._move_aside(database)
        if not database.exists():
            # SQLite gives its other files the mode of this one. Only a new file may be opened by
            # hand: closing it again would drop the locks of every connection this process has.
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._cache = SafeCache(
            str(self.folder), timeout=_BUSY_SECONDS, disk=SafeDisk, **self._settings()
        )
        self._inode = _inode(database)
        with self._cache.borrowed():
            if self.paid:
                # Only now: diskcache writes its fifty settings one by one, each waiting for the
                # disk.
                self._cache.reset("sqlite_synchronous", 2)
                self._adopt_value_files()
            else:
                self._sweep_value_files()

    def _settings(self) -> dict[str, object]:
        ours = {
            "size_limit": self.limit_bytes or 0,
            "eviction_policy": "none" if self.paid else "least-recently-used",
            # Zero turns diskcache's own eviction off: SafeCache.evict_oldest does it.
            "cull_limit": 0,
            # A mapped database that something truncates kills the process with SIGBUS.
            "sqlite_mmap_size": 0,
            # What one owner has is asked before each of their jobs.
            "tag_index": 0 if self.paid else 1,
            "disk_min_file_size": 0 if self.paid else _RESULTS_FILE_THRESHOLD,
            "disk_durable": int(self.paid),
        }
        # Naming every setting keeps a planted Settings table from choosing any.
        return {**DEFAULT_SETTINGS, **ours}

    def _move_aside(self, database: Path) -> None:
        number = 1
        while (target := database.with_name(f"{DATABASE}.damaged-{number}")).exists():
            number += 1
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{database}{suffix}")
            if part.exists():
                part.replace(f"{target}{suffix}")
        log.error("The store's database %s was damaged; it is now %s", database, target)

    def _adopt_value_files(self) -> None:
        files = list(self._cache.unlisted_files())
        # Newest first: where an answer was replaced, the file of the later one wins.
        files.sort(key=lambda name: (self.folder / name).stat().st_mtime_ns, reverse=True)
        adopted = sum(self._cache.adopt(name) for name in files)
        if adopted:
            log.warning("Recovered %d paid answers in %s from their files", adopted, self.folder)

    def _sweep_value_files(self) -> None:
        for name in self._cache.unlisted_files():
            path = self.folder / name
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
            # A younger file may be one that another process is writing at this moment.
            if age > _ABANDONED_SECONDS:
                self._cache.disk.remove(name)


def is_full(error: StoreError) -> bool:
    """Whether the disk has no room, or the user's share of it is used up."""
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(cause, sqlite3.Error) and "full" in str(cause)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
