"""A lock between threads and processes that a dying holder cannot keep.

The lock is the kernel's (`flock`), not a lease or a file's existence: when its holder is killed the
kernel frees it, and the next in line goes on. Linux and macOS, local disks.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.02


@contextmanager
def file_lock(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock named by `path`; not re-entrant.

    `waiting` is called about fifty times a second while another holds it; what it raises ends the
    wait. The file is removed afterwards, so that locks named after results do not pile up.
    """
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        # Unlinked while still held: whoever waits on this inode sees that its name is gone.
        if _names(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody, in this process or another, holds the lock named by `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        # The folder may have been deleted under a running explorer.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _try_lock(descriptor):
                if waiting is not None:
                    waiting()
                time.sleep(_POLL_SECONDS)
            if _names(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the previous holder removed this file: the lock is elsewhere now


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
