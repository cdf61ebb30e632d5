"""The connections to one database: few, each lent to one thread at a time.

Few are kept open rather than many opened and closed: SQLite keeps the files of a closed connection
open as long as any other connection of the process has a lock, which in WAL mode is always.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 8
"""Connections at a time; further threads wait for the milliseconds that one takes."""


class Connections:
    """Lends connections that were opened for use by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST)
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()

    @contextmanager
    def place(self) -> Iterator[sqlite3.Connection | None]:
        """Wait until there may be one more, until the block ends: one that is idle, or None where a
        new one is to be opened."""
        with self._places:
            with self._lock:
                if self._process != os.getpid():  # SQLite's connections do not outlive a fork
                    self._idle, self._process = [], os.getpid()
                found = self._idle.pop() if self._idle else None
            yield found

    def give(self, connection: sqlite3.Connection) -> None:
        """Leave one to others; to be called within `place`."""
        if connection.in_transaction:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close all that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
