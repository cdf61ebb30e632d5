"""Results and paid answers that outlive a restart, shared by every session and process.

    store = Store(settings.cache_dir)
    key = Key("layer-map", version=1, parameters={"sae": fingerprint(tensors), "seed": 0})
    arrays = store.get_or_compute(key, lambda: fit_map(...), ARRAYS)

Values live in diskcache, in two folders: `results` (recomputable: the least recently used go when
the limit is reached) and `paid` (answers that cost money: never evicted, not counted against the
limit). Nothing read from disk is unpickled or trusted: a damaged, truncated or foreign entry is a
miss. The cache folder must be on a local disk; SQLite and file locks are unreliable over NFS.
"""

import hashlib
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from core.store.codecs import ARRAYS, BYTES, FRAME, JSON, Codec, strict_json
from core.store.process_lock import file_lock
from core.store.tier import StoreError, Tier, TierUsage

__all__ = [
    "ARRAYS",
    "BYTES",
    "DEFAULT_LIMIT_BYTES",
    "FRAME",
    "JSON",
    "Codec",
    "Key",
    "Store",
    "StoreError",
    "StoreUsage",
    "TierUsage",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_LIMIT_BYTES = 8 << 30
_KIND = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What a stored value was computed from."""

    kind: str
    """Which computation, in lower case: `layer-map`, `explanation`."""
    version: int
    """Raised whenever the computation changes its result."""
    parameters: Mapping[str, Any] = field(hash=False)
    """Everything else the result depends on, as JSON: fingerprints, seeds, options."""
    digest: str = field(init=False, repr=False)
    """sha256, in hex, of the canonical JSON of the three."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not _KIND.fullmatch(self.kind):
            raise ValueError(f"The kind {self.kind!r} is not a lower-case name such as layer-map.")
        if type(self.version) is not int or self.version < 1:
            raise ValueError(f"The version {self.version!r} is not a whole number from 1 up.")
        parameters = strict_json(dict(self.parameters), what="parameters", sort_keys=True)
        text = f'{{"kind":"{self.kind}","parameters":{parameters},"version":{self.version}}}'
        # A copy: the digest must not disagree with a dict that its owner changes later.
        object.__setattr__(self, "parameters", json.loads(parameters))
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class StoreUsage:
    """How full the store is."""

    recomputable: TierUsage
    """Results that can be computed again; evicted at the limit."""
    paid: TierUsage
    """Answers that cost money; kept until removed by hand."""


class Store:
    """Values by `Key`, on disk; safe to use from any thread and any number of processes."""

    def __init__(
        self, directory: Path | str, *, size_limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        """Open or create the store in `directory`; its folders are readable by the owner only.

        Raises `ValueError` when the folder cannot be written or cannot hold a database.
        """
        if size_limit_bytes < 1 << 20:
            raise ValueError(
                f"size_limit_bytes is {size_limit_bytes}; a store needs at least 1 MiB (1048576)."
            )
        self.directory = Path(directory).expanduser().absolute()
        self._locks = self.directory / "locks"
        self._computing = threading.local()
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._locks.mkdir(mode=0o700, exist_ok=True)
            self._locks.chmod(0o700)
            self._results = Tier(
                self.directory / "results",
                lock=self._locks / "results.open",
                limit_bytes=size_limit_bytes,
            )
            self._paid = Tier(
                self.directory / "paid", lock=self._locks / "paid.open", limit_bytes=None
            )
        except (OSError, sqlite3.Error, StoreError) as error:
            raise ValueError(
                f"The store cannot be kept in {self.directory}: {error}. Set SAE_EXPLORER_CACHE"
                " to a folder you own on a local disk."
            ) from error

    def get(self, key: Key, codec: Codec[T], *, paid: bool = False) -> T | None:
        """The value of `key`, or None when there is none, or none that is whole."""
        encoded = self._tier(paid).get(_name(key, codec))
        return None if encoded is None else _decode(key, codec, encoded, default=None)

    def put(self, key: Key, value: T, codec: Codec[T], *, paid: bool = False) -> None:
        """Keep `value`; raises `ValueError` (codec) or `StoreError` (disk, size)."""
        self._tier(paid).put(_name(key, codec), codec.encode(value))

    def remove(self, key: Key, codec: Codec[T], *, paid: bool = False) -> None:
        """Forget the value of `key`, if there is one."""
        self._tier(paid).remove(_name(key, codec))

    def get_or_compute(
        self,
        key: Key,
        compute: Callable[[], T],
        codec: Codec[T],
        *,
        paid: bool = False,
        waiting: Callable[[], None] | None = None,
    ) -> T:
        """The stored value of `key`, else `compute()`, stored.

        Of all threads and processes that ask at once, one computes and the rest wait for it; if it
        fails or is killed, one of the rest computes. While waiting, `waiting` is called some fifty
        times a second: give it `progress.check` and a cancelled job stops waiting.

        What `compute` raises is raised, and nothing stored. A value that the disk has no room for
        is logged and returned all the same. The first caller gets what later ones get: the value
        as it comes back from the codec (tuples as lists, for JSON).
        """
        tier, name = self._tier(paid), _name(key, codec)
        absent = object()
        found = self._look(tier, name, key, codec, absent)
        if found is not absent:
            return found
        with self._only_one(name, waiting):
            found = self._look(tier, name, key, codec, absent)
            if found is not absent:
                return found
            encoded = codec.encode(compute())
            try:
                tier.put(name, encoded)
            except StoreError:
                log.exception("The %s was computed but could not be kept", key.kind)
            return codec.decode(encoded)

    def usage(self) -> StoreUsage:
        """Entries and bytes of both tiers."""
        return StoreUsage(recomputable=self._results.usage(), paid=self._paid.usage())

    def clear_recomputable(self) -> int:
        """Forget every result that can be computed again; the number there was."""
        return self._results.clear()

    def close(self) -> None:
        """Close this thread's database connections; the next use opens others."""
        self._results.close()
        self._paid.close()

    def _tier(self, paid: bool) -> Tier:
        return self._paid if paid else self._results

    def _look(self, tier: Tier, name: str, key: Key, codec: Codec[T], absent: Any) -> Any:
        # None is a value that JSON can hold, hence a mark of its own for "nothing stored".
        encoded = tier.get(name)
        return absent if encoded is None else _decode(key, codec, encoded, default=absent)

    @contextmanager
    def _only_one(self, name: str, waiting: Callable[[], None] | None) -> Iterator[None]:
        mine: set[str] = self._computing.__dict__.setdefault("names", set())
        if name in mine:
            raise RuntimeError(f"Computing {name} asks for its own result; it would wait forever.")
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self._locks / f"{name}.lock", waiting=waiting):
            mine.add(name)
            try:
                yield
            finally:
                mine.discard(name)


def _name(key: Key, codec: Codec[Any]) -> str:
    return f"{key.digest}.{codec.name}"


def _decode(key: Key, codec: Codec[Any], encoded: bytes, *, default: Any) -> Any:
    try:
        return codec.decode(encoded)
    except ValueError as error:
        log.warning("Ignored a stored %s that is not %s: %s", key.kind, codec.name, error)
        return default
