"""What is remembered of one SAE's explanations between visits."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from core.neuronpedia.addresses import Source
from core.store import JSON, Codec, Key, Store, StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

_VERSION = 1


@dataclass(frozen=True)
class Known:
    """One state of the source."""

    digest: str
    """Names the files it had; `""` when it had none."""
    age_seconds: float = 0.0
    """Since it was last seen to be so."""

    @property
    def absent(self) -> bool:
        """Whether there was nothing."""
        return not self.digest


class Memory:
    """Results by the state of the source that they were computed from, and the last state seen.

    Without a store it remembers nothing.
    """

    def __init__(
        self,
        store: Store | None,
        source: Source,
        *,
        base: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`base` is the bucket's address; `clock` gives seconds since the epoch."""
        self.store = store
        self._parameters = {"base": base, "source": str(source)}
        self._clock = clock

    def known(self) -> Known | None:
        """The state last seen."""
        entry = None if self.store is None else self.store.get(self._state_key(), JSON)
        if not isinstance(entry, Mapping):
            return None
        digest, seen_at = entry.get("digest"), entry.get("seen_at")
        if not isinstance(digest, str) or not isinstance(seen_at, int | float):
            return None
        # A clock that was set back must not make an entry fresh for ever.
        age = self._clock() - seen_at
        return Known(digest, age if age >= 0 else float("inf"))

    def remember(self, known: Known) -> None:
        """Note that the source is in this state now."""
        if self.store is not None:
            entry = {"digest": known.digest, "seen_at": float(self._clock())}
            try:
                self.store.put(self._state_key(), entry, JSON)
            except StoreError:
                log.exception("The state of Neuronpedia's exports could not be noted")

    def get(self, kind: str, known: Known, codec: Codec[T]) -> T | None:
        """The stored result for this state."""
        if self.store is None or known.absent:
            return None
        return self.store.get(self._result_key(kind, known), codec)

    def get_or_compute(
        self,
        kind: str,
        known: Known,
        compute: Callable[[], T],
        codec: Codec[T],
        *,
        waiting: Callable[[], None],
    ) -> T:
        """The same, computed by one of all who ask for it at once."""
        if self.store is None:
            return compute()
        return self.store.get_or_compute(
            self._result_key(kind, known), compute, codec, waiting=waiting
        )

    def _state_key(self) -> Key:
        return Key("neuronpedia-state", _VERSION, self._parameters)

    def _result_key(self, kind: str, known: Known) -> Key:
        parameters: dict[str, Any] = {**self._parameters, "digest": known.digest}
        return Key(f"neuronpedia-{kind}", _VERSION, parameters)
