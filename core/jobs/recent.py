"""The few large results that were looked at last, for all sessions."""

import threading
from collections import OrderedDict
from typing import Any


class Recent:
    """Keeps, of each kind of result, the `n` used last; others come from the store again, mostly.

    A result is named by the key of the job that made it, whose kind is what stands before its first
    colon: `latent-index:4f1c…`.
    """

    def __init__(self, n: int) -> None:
        self._n, self._lock = n, threading.Lock()
        self._kinds: dict[str, OrderedDict[str, Any]] = {}

    def get(self, key: str) -> Any:
        """The result of `key`, which thereby counts as used; None if it is not here any more."""
        with self._lock:
            kind = self._kind(key)
            if key in kind:
                kind.move_to_end(key)
            return kind.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a result."""
        with self._lock:
            kind = self._kind(key)
            kind[key] = value
            kind.move_to_end(key)
            while len(kind) > self._n:
                kind.popitem(last=False)

    def clear(self) -> None:
        """Forget all: what was kept is in the store, or is made again."""
        with self._lock:
            self._kinds.clear()

    def n_of_all(self) -> int:
        """How many results there are, of all kinds."""
        with self._lock:
            return sum(len(kind) for kind in self._kinds.values())

    def _kind(self, key: str) -> OrderedDict[str, Any]:
        return self._kinds.setdefault(key.partition(":")[0], OrderedDict())
