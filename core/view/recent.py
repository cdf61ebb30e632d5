"""The few large results that were looked at last, for all sessions."""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps the `n` results used last; others have to be made again (from the store, mostly)."""

    def __init__(self, n: int) -> None:
        """Empty."""
        self._n, self._lock = n, threading.Lock()
        self._items: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str) -> T | None:
        """The result of `key`, which thereby counts as used; None if it is not here any more."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: str, value: T) -> None:
        """Keep a result."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._n:
                self._items.popitem(last=False)
