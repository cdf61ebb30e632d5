"""What a store does, in a dict: for one call, or for a notebook without a folder."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from core.store import Codec, Key

T = TypeVar("T")


class ResultStore(Protocol):
    """The part of `Store` that analyses need."""

    def get(self, key: Key, codec: Codec[T]) -> T | None:
        """The value of `key`, or None."""

    def put(self, key: Key, value: T, codec: Codec[T]) -> None:
        """Keep `value`."""

    def keep(self, key: Key, value: T, codec: Codec[T]) -> bool:
        """`put` where there is room; whether there was."""

    def is_kept(self, key: Key, codec: Codec[Any]) -> bool:
        """Whether there is a value of `key`."""

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], T],
        codec: Codec[T],
        *,
        waiting: Callable[[], None] | None = None,
    ) -> T:
        """The value of `key`, else `compute()`, kept."""


class Memory:
    """A `ResultStore` that lasts as long as it is referred to."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], Any] = {}

    def get(self, key: Key, codec: Codec[T]) -> T | None:
        """The value of `key`, or None."""
        return self._values.get((key.digest, codec.name))

    def put(self, key: Key, value: T, codec: Codec[T]) -> None:
        """Keep `value`."""
        self._values[key.digest, codec.name] = value

    def keep(self, key: Key, value: T, codec: Codec[T]) -> bool:
        """`put`, for which there always is room."""
        self.put(key, value, codec)
        return True

    def is_kept(self, key: Key, codec: Codec[Any]) -> bool:
        """Whether there is a value of `key`."""
        return (key.digest, codec.name) in self._values

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], T],
        codec: Codec[T],
        *,
        waiting: Callable[[], None] | None = None,
    ) -> T:
        """The value of `key`, else `compute()`, kept."""
        name = (key.digest, codec.name)
        if name not in self._values:
            self._values[name] = compute()
        return self._values[name]
