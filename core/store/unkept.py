"""Results that the disk refused, in memory until it takes them or the explorer ends.

What took an hour is not thrown away because a disk is full: it is shown from here. The memory is
bounded; what was used longest ago goes first.
"""

import threading
from collections import OrderedDict

MOST_BYTES = 1 << 30
"""Of all of them together; the index of an SAE of 100,000 latents takes some 400 MB."""


class Unkept:
    """Encoded values by name; safe to use from any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def hold(self, name: str, encoded: bytes) -> None:
        """Have `name` stand for this value, unless it alone is more than there is room for."""
        with self._lock:
            self._values.pop(name, None)
            if len(encoded) > self._most_bytes:
                return
            self._values[name] = encoded
            held = sum(map(len, self._values.values()))
            while held > self._most_bytes:
                held -= len(self._values.popitem(last=False)[1])

    def get(self, name: str) -> bytes | None:
        """The value of `name`; None when there is none."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
            return self._values.get(name)

    def first(self) -> tuple[str, bytes] | None:
        """The name and value that were used longest ago; None when there is none."""
        with self._lock:
            return next(iter(self._values.items()), None)

    def drop(self, name: str) -> None:
        """Forget `name`: the disk has it, or nobody wants it."""
        with self._lock:
            self._values.pop(name, None)

    def clear(self, prefix: str) -> None:
        """Forget all whose names begin so."""
        with self._lock:
            for name in [name for name in self._values if name.startswith(prefix)]:
                del self._values[name]
