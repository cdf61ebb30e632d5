"""To read something of the store, change it and write it back, with nobody else in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.store.process_lock import file_lock
from core.store.tier import StoreError

if TYPE_CHECKING:
    from core.store import Store


@contextmanager
def alone_with(store: "Store", what: str) -> Iterator[None]:
    """Nobody else, in any thread or process, is in such a block of `what` until this one ends.

    Raises StoreError, a sentence, where the disk does not even take the lock.
    """
    lock = file_lock(store.directory / "locks" / f"{what}.lock")
    try:
        lock.__enter__()
    except OSError as error:
        raise StoreError(
            f"The store in {store.directory} cannot be written ({error.strerror}), so nothing was "
            "changed; check the disk's free space and the folder's permissions."
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
