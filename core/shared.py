"""Objects of which a process has one, made when first asked for and never lost to a cache.

Streamlit clears its caches when any visitor's browser asks for it. Jobs under way, models in memory
and the worker process are not values of a cache: they live here, and `core.resources` hands them
out.
"""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_all: "list[Shared[Any]]" = []


class Shared(Generic[T]):
    """One object; threads that ask at the same time wait for the one that makes it."""

    def __init__(
        self, make: Callable[[], T], *, close: Callable[[T], object] = lambda _: None
    ) -> None:
        """`make` makes it at the first call; `close` ends it, at `forget_all` alone."""
        self._make, self._close = make, close
        self._lock = threading.RLock()
        self._made: list[T] = []
        _all.append(self)

    def __call__(self) -> T:
        """The object, the same at every call."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    def forget(self) -> None:
        """End the object; the next call makes another."""
        with self._lock:
            if self._made:
                self._close(self._made.pop())


def forget_all() -> None:
    """End every shared object: between tests, which each want a server of their own."""
    for shared in reversed(_all):
        shared.forget()
