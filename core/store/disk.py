"""diskcache without pickle: only text keys and framed bytes go in, and only they come out.

Stock diskcache unpickles whatever a row marked "pickle" holds (CVE-2025-69872), so a file planted
in the cache folder runs code on read. `SafeDisk` has no pickle path at all, in either direction,
and refuses file names that lead out of the cache folder.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME, DEFAULT_SETTINGS, METADATA, MODE_BINARY, MODE_RAW

from core.store.connections import Connections
from core.store.frame import DamagedEntry, unpack, unpack_as

_VALUE_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
_WRITE_CHUNK = 1 << 22
_COLUMNS = (
    "rowid key raw store_time expire_time access_time access_count tag size mode filename value"
)


class SafeDisk(diskcache.Disk):
    """Stores text keys and bytes; everything else is refused on the way in and on the way out."""

    def __init__(self, directory: str, durable: int = 0, **others: Any) -> None:
        super().__init__(directory, **others)
        self.durable = durable

    def put(self, key: object) -> tuple[str, bool]:
        """`key` as its database column; raises `TypeError` unless it is text."""
        if type(key) is not str:
            raise TypeError(f"a store key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key of a row; raises `DamagedEntry` for a pickled or foreign key."""
        if not raw or type(key) is not str:
            raise DamagedEntry("a row whose key is not plain text")
        return key

    def store(
        self, value: object, read: bool, key: object = None
    ) -> tuple[int, int, str | None, memoryview | None]:
        """(size, mode, file name, column) of a value; raises `TypeError` unless it is bytes."""
        if read or type(value) is not bytes:
            raise TypeError(f"a stored value must be bytes, not {type(value).__name__}")
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, memoryview(value)
        filename, path = self.filename()
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            self._write_file(path, value)
        except BaseException:
            self.remove(filename)  # a full disk must not also keep the half that did fit
            raise
        return len(value), MODE_BINARY, filename, None

    def _write_file(self, path: str, value: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            rest = memoryview(value)
            while rest:
                rest = rest[file.write(rest[:_WRITE_CHUNK]) :]
            if self.durable:
                os.fsync(file.fileno())

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        """Bytes of a row; raises `DamagedEntry` for a pickled, foreign or missing value."""
        if mode == MODE_RAW and type(value) is bytes:
            return value
        if mode != MODE_BINARY or not _is_value_file(filename):
            raise DamagedEntry("a row that does not hold plain bytes")
        try:
            return Path(self._directory, str(filename)).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedEntry("a row whose value file is missing") from error

    def remove(self, file_path: object) -> None:
        """Delete a value file; a name that no value file can have is left alone."""
        if _is_value_file(file_path):
            super().remove(file_path)


class SafeCache(diskcache.Cache):
    """A diskcache whose values are frames (core/store/frame.py), with our own eviction.

    Evicting is ours because diskcache drops ten entries at a time, the one just written included:
    with results of hundreds of MB that empties the cache. So are the connections: diskcache opens
    one for each thread, three files each, and a server of many sessions has hundreds of threads.
    Here a thread borrows one of few while it does something.
    """

    _connections: Connections | None = None  # the constructor of diskcache needs one already

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        # It leaves its own connection to the thread that opened the cache, which may live for long.
        self._shared.give(self._local.__dict__.pop("con"))

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Work with one connection in this thread until the block ends."""
        if hasattr(self._local, "con"):  # within another block
            yield
            return
        with self._shared.place() as connection:
            if connection is not None:
                self._local.con = connection
            try:
                yield
            finally:
                connection = self._local.__dict__.pop("con", None)
                if connection is not None:
                    self._shared.give(connection)

    def close(self) -> None:
        """Close the connections that nobody works with; the next use opens another."""
        super().close()
        self._shared.close()

    @property
    def _shared(self) -> Connections:
        if self._connections is None:
            self._connections = Connections()
        return self._connections

    @property
    def _con(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "con", None)
        return self._connected() if connection is None else connection

    def _connected(self) -> sqlite3.Connection:
        """A new connection of this thread, set up as diskcache does, which others may use later."""
        connection = self._local.con = sqlite3.connect(
            Path(self.directory, DBNAME),
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        # Garbage in a text column must read as garbage, not stop every query that meets it.
        connection.text_factory = _read_any_text
        with suppress(sqlite3.OperationalError):  # there are no settings yet
            for key, value in connection.execute("SELECT key, value FROM Settings").fetchall():
                if key.startswith("sqlite_"):
                    self.reset(key, value, update=False)
        return connection

    def read(self, name: str) -> bytes | None:
        """Payload of `name`, or None; raises `DamagedEntry`."""
        framed = self.get(name)
        return None if framed is None else unpack_as(name, framed)

    def read_or_remove(self, name: str, *, keep_in: Path | None) -> bytes | None:
        """Payload of `name`; a damaged entry is removed (to `keep_in`, if given) and gives None."""
        with self._transact() as (sql, cleanup):
            # Nobody can write now, so an entry that another process just replaced is not lost.
            try:
                return self.read(name)
            except DamagedEntry:
                rows = sql(
                    "SELECT rowid, filename, value FROM Cache WHERE key = ?", (name,)
                ).fetchall()
                for rowid, filename, value in rows:
                    if keep_in is not None:
                        self._keep(keep_in / f"{name}-{time.time_ns()}", filename, value)
                    sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    cleanup(filename)
                return None

    def _keep(self, target: Path, filename: object, value: object) -> None:
        source = Path(self.directory, str(filename)) if _is_value_file(filename) else None
        if source is not None and source.is_file():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            source.rename(target)
        elif value is not None:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.write_bytes(value if isinstance(value, bytes) else str(value).encode())

    def evict_oldest(self, *, limit: int, keep: str) -> int:
        """Delete the least recently used entries, never `keep`, until `limit` bytes hold the rest.

        Returns the number of entries deleted.
        """
        evicted = 0
        while (excess := self.volume() - limit) > 0:
            with self._transact() as (sql, cleanup):
                rows = sql(
                    "SELECT rowid, filename, size + coalesce(length(value), 0) FROM Cache"
                    " WHERE key <> ? ORDER BY access_time",
                    (keep,),
                )
                chosen = []
                for rowid, filename, size in rows:
                    chosen.append((rowid, filename))
                    excess -= size
                    if excess <= 0:
                        break
                rows.close()
                for rowid, filename in chosen:
                    sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    cleanup(filename)
            if not chosen:
                break
            evicted += len(chosen)
        return evicted

    def owned(self, low: str, high: str) -> dict[str, tuple[int, int]]:
        """Entries and bytes of each owner (diskcache's tag) from `low` to before `high`."""
        rows = self._sql(
            "SELECT tag, count(*), sum(size + coalesce(length(value), 0)) FROM Cache"
            " WHERE tag >= ? AND tag < ? GROUP BY tag",
            (low, high),
        ).fetchall()
        return {str(tag): (int(n), int(size)) for tag, n, size in rows}

    def remove_owned(self, owner: str) -> int:
        """Delete the entries of an owner; returns their bytes."""
        freed = 0
        with self._transact() as (sql, cleanup):
            rows = sql(
                "SELECT rowid, filename, size + coalesce(length(value), 0) FROM Cache"
                " WHERE tag = ?",
                (owner,),
            ).fetchall()
            for rowid, filename, size in rows:
                sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                cleanup(filename)
                freed += int(size)
        return freed

    def unlisted_files(self) -> Iterator[str]:
        """Value files that no row refers to (their writer was killed, or the database was lost)."""
        listed = {name for (name,) in self._sql("SELECT filename FROM Cache").fetchall()}
        for path in Path(self.directory).glob("??/??/*.val"):
            name = path.relative_to(self.directory).as_posix()
            if _is_value_file(name) and name not in listed:
                yield name

    def adopt(self, filename: str) -> bool:
        """List a whole value file under the name in its frame; False if it is damaged or known."""
        try:
            framed = self.disk.fetch(MODE_BINARY, filename, None, False)
            name, _ = unpack(framed)
        except DamagedEntry:
            return False
        with self._transact():
            if name in self:
                return False
            columns = (None, None, len(framed), MODE_BINARY, filename, None)
            self._row_insert(name, True, time.time(), columns)
        return True


def database_is_sound(path: Path) -> bool:
    """Whether `path` is a database that diskcache can work with, or one it can start from."""
    connection = sqlite3.connect(path, timeout=60)
    connection.text_factory = _read_any_text
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            return False
        tables = {
            name: " ".join(row[1] for row in connection.execute(f"PRAGMA table_info({name})"))
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name in ("Cache", "Settings")
        }
        if tables.get("Cache", _COLUMNS) != _COLUMNS or tables.get("Settings") not in (
            None,
            "key value",
        ):
            return False
        if "Settings" in tables:
            settings = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
            return settings.keys() <= _KNOWN_SETTINGS and all(
                isinstance(settings.get(counter, 0), int) for counter in METADATA
            )
    except sqlite3.DatabaseError as error:
        # OperationalError is "busy" or "cannot open", which say nothing about the contents.
        return isinstance(error, sqlite3.OperationalError)
    finally:
        connection.close()
    return True


_KNOWN_SETTINGS = {*DEFAULT_SETTINGS, *METADATA, "disk_durable"}
DATABASE = DBNAME


def _is_value_file(name: object) -> bool:
    return isinstance(name, str) and _VALUE_FILE.fullmatch(name) is not None


def _read_any_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
