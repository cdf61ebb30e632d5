"""Keep parts of a map: in the store, or without one for as long as one call lasts."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from core.jobs.progress import Progress
from core.store import ARRAYS, Codec, Key

Arrays = dict[str, np.ndarray]


class Kept(Protocol):
    """The part of `Store` that maps need."""

    def get(self, key: Key, codec: Codec[Arrays]) -> Arrays | None:
        """The value of `key`, or None."""

    def put(self, key: Key, value: Arrays, codec: Codec[Arrays]) -> None:
        """Keep `value`."""

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], Arrays],
        codec: Codec[Arrays],
        *,
        waiting: Callable[[], None] | None = None,
    ) -> Arrays:
        """The value of `key`, else `compute()`, kept."""


class Memory:
    """What a store does, in a dict."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: Key, codec: Codec[Arrays]) -> Arrays | None:
        """The value of `key`, or None."""
        return self._values.get(key.digest)

    def put(self, key: Key, value: Arrays, codec: Codec[Arrays]) -> None:
        """Keep `value`."""
        self._values[key.digest] = value

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], Arrays],
        codec: Codec[Arrays],
        *,
        waiting: Callable[[], None] | None = None,
    ) -> Arrays:
        """The value of `key`, else `compute()`, kept."""
        if key.digest not in self._values:
            self._values[key.digest] = compute()
        return self._values[key.digest]


def get_or_compute(
    store: Kept, key: Key, compute: Callable[[], Arrays], progress: Progress | None
) -> Arrays:
    """As `store.get_or_compute`; a cancelled job stops waiting for another that computes."""
    check = None if progress is None else progress.check
    return store.get_or_compute(key, compute, ARRAYS, waiting=check)
