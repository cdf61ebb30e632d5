"""Results and paid answers that outlive a restart, shared by every session and process.

    store = Store(settings.cache_dir)
    key = Key("layer-map", version=1, parameters={"sae": fingerprint(tensors), "seed": 0})
    arrays = store.get_or_compute(key, lambda: fit_map(...), ARRAYS)

Values live in diskcache, in two folders: `results` (recomputable: the least recently used go when
the limit is reached) and `paid` (answers that cost money: never evicted, not counted against the
limit). Nothing read from disk is unpickled or trusted: a damaged, truncated or foreign entry is a
miss. The cache folder must be on a local disk; SQLite and file locks are unreliable over NFS.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.asking import account, check_may_compute, kept, may_compute
from core.store.codecs import ARRAYS, BYTES, FRAME, JSON, Codec
from core.store.key import Key
from core.store.leftovers import sweep
from core.store.owned import Owned, owner_of, parted, span_of
from core.store.process_lock import file_lock
from core.store.tier import StoreError, Tier, TierUsage, TooLarge, is_full
from core.store.unkept import Unkept

__all__ = [
    "ARRAYS",
    "BYTES",
    "DEFAULT_LIMIT_BYTES",
    "FRAME",
    "JSON",
    "Codec",
    "Key",
    "Owned",
    "Store",
    "StoreError",
    "StoreUsage",
    "TierUsage",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_LIMIT_BYTES = 8 << 30
_SPARE_BYTES = 1 << 20
"""Freed on a full disk besides what is kept: the database writes, too."""
_FREE = "until the disk has room, results are in memory alone, and computed again after a restart."
_RETRY_SECONDS = 60.0
"""Between two attempts to write what the disk refused."""


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
        self._unkept, self._retry_at = Unkept(), 0.0
        self.trouble: str | None = None
        """Why the last result could not be kept, as a sentence; None where it was."""
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
        encoded = self._found(self._tier(paid), _name(key, codec))
        return None if encoded is None else _decode(key, codec, encoded, default=None)

    def put(self, key: Key, value: T, codec: Codec[T], *, paid: bool = False) -> None:
        """Keep `value`; raises `ValueError` (codec) or `StoreError` (disk, size)."""
        tier, name, encoded = self._tier(paid), _name(key, codec), codec.encode(value)
        if not self._is_there(tier, name, encoded):
            self._put(tier, name, encoded, key.kind)

    def keep(self, key: Key, value: T, codec: Codec[T], *, paid: bool = False) -> bool:
        """`put` a result that is good without being kept: whether it was.

        Where the disk refuses, it is had from memory until the explorer ends or the memory for such
        results is used up, and `trouble` says so until the disk has taken all of them.
        """
        tier, name, encoded = self._tier(paid), _name(key, codec), codec.encode(value)
        there = self._is_there(tier, name, encoded)
        return there or self._put_or_hold(tier, name, encoded, key.kind)

    def is_kept(self, key: Key, codec: Codec[Any], *, paid: bool = False) -> bool:
        """Whether the disk has a value of `key`, without reading it."""
        return self._tier(paid).has(_name(key, codec))

    def hold(self, key: Key, value: T, codec: Codec[T]) -> None:
        """Have `get` find a result that there is no room for, as long as this explorer runs."""
        if self.trouble is None:
            self.trouble = (
                f"A result is shown but could not be kept whole; free some space: {_FREE}"
            )
        self._unkept.hold(_held(self._results, _name(key, codec)), codec.encode(value))

    def _is_there(self, tier: Tier, name: str, encoded: bytes) -> bool:
        """Whether nothing new would be kept, asked for whoever may keep nothing new.

        What was computed before is noted again by whoever looks at it. Raises NotStored.
        """
        if tier.paid or may_compute():
            return False
        if self._found(tier, name) != encoded:
            check_may_compute()
        return True

    def _put_or_hold(self, tier: Tier, name: str, encoded: bytes, kind: str) -> bool:
        try:
            self._put(tier, name, encoded, kind)
        except StoreError as error:
            log.exception("The %s was computed but could not be kept", kind)
            if not isinstance(error, TooLarge):
                self._unkept.hold(_held(tier, name), encoded)
            return False
        return True

    def _put(self, tier: Tier, name: str, encoded: bytes, kind: str) -> None:
        owner = None if tier.paid else owner_of(account(), kind)
        try:
            try:
                tier.put(name, encoded, owner=owner)
            except StoreError as error:
                if not is_full(error):
                    raise
                # Old results make room for new ones, and for answers that cost money.
                swept = sweep(self.directory, full=True)
                if not self._results.make_room(2 * len(encoded) + _SPARE_BYTES) and not swept:
                    raise
                tier.put(name, encoded, owner=owner)
        except StoreError as error:
            self.trouble = (
                f"A result is shown but could not be kept: {str(error).rstrip('.')}; {_FREE}"
            )
            raise
        self._unkept.drop(_held(tier, name))
        kept(len(encoded))
        self._write_held()

    def _write_held(self) -> None:
        """Write what the disk refused, now that it took something; `trouble` ends with the last."""
        while (held := self._unkept.first()) is not None:
            if time.monotonic() < self._retry_at:
                return
            folder, _, name = held[0].partition("/")
            try:
                self._tier(folder == self._paid.folder.name).put(name, held[1])
            except StoreError:
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                return
            self._unkept.drop(held[0])
        self.trouble = None

    def remove(self, key: Key, codec: Codec[T], *, paid: bool = False) -> None:
        """Forget the value of `key`, if there is one."""
        self._unkept.drop(_held(self._tier(paid), _name(key, codec)))
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
        check_may_compute()
        with self._only_one(name, waiting):
            found = self._look(tier, name, key, codec, absent)
            if found is not absent:
                return found
            encoded = codec.encode(compute())
            self._put_or_hold(tier, name, encoded, key.kind)
            return codec.decode(encoded)

    def usage(self) -> StoreUsage:
        """Entries and bytes of both tiers."""
        return StoreUsage(recomputable=self._results.usage(), paid=self._paid.usage())

    def owned(self, account: str | None = None) -> list[Owned]:
        """What results of an account, or of all, take, by kind; nobody's are left out."""
        return [parted(*it) for it in self._results.owned(*span_of(account)).items()]

    def remove_owned(self, one: Owned) -> int:
        """Forget these results; the bytes that are free again."""
        return self._results.remove_owned(owner_of(one.account, one.kind) or "")

    def clear_recomputable(self) -> int:
        """Forget every result that can be computed again; the number there was."""
        self._unkept.clear(_held(self._results, ""))
        return self._results.clear()

    def close(self) -> None:
        """Close the database connections that nobody works with; the next use opens others."""
        self._results.close()
        self._paid.close()

    def _tier(self, paid: bool) -> Tier:
        return self._paid if paid else self._results

    def _look(self, tier: Tier, name: str, key: Key, codec: Codec[T], absent: Any) -> Any:
        # None is a value that JSON can hold, hence a mark of its own for "nothing stored".
        encoded = self._found(tier, name)
        return absent if encoded is None else _decode(key, codec, encoded, default=absent)

    def _found(self, tier: Tier, name: str) -> bytes | None:
        # What the disk refused is newer than what it has under the same name.
        held = self._unkept.get(_held(tier, name))
        return tier.get(name) if held is None else held

    @contextmanager
    def _only_one(self, name: str, waiting: Callable[[], None] | None) -> Iterator[None]:
        mine: set[str] = self._computing.__dict__.setdefault("names", set())
        if name in mine:
            raise RuntimeError(f"Computing {name} asks for its own result; it would wait forever.")
        with ExitStack() as stack:
            try:
                self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(file_lock(self._locks / f"{name}.lock", waiting=waiting))
            except OSError as error:  # full or read-only: two may compute it, and neither fails
                log.warning("Computing %s without a lock: %s", name, error)
            mine.add(name)
            try:
                yield
            finally:
                mine.discard(name)


def _held(tier: Tier, name: str) -> str:
    return f"{tier.folder.name}/{name}"


def _name(key: Key, codec: Codec[Any]) -> str:
    return f"{key.digest}.{codec.name}"


def _decode(key: Key, codec: Codec[Any], encoded: bytes, *, default: Any) -> Any:
    try:
        return codec.decode(encoded)
    except ValueError as error:
        log.warning("Ignored a stored %s that is not %s: %s", key.kind, codec.name, error)
        return default
