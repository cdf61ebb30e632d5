"""What each account has used up today, on disk: a restart forgets nothing and grants nothing.

Use is written down before it happens, at the most that it may be, and set right afterwards. A
server that is killed in between leaves the most: nobody gets more than their share that way.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.store import JSON, Key, Store, StoreError
from core.store.alone import alone_with

log = logging.getLogger(__name__)

_VERSION = 1
_WORDS: Mapping[str, tuple[str, str]] = {
    "compute_seconds": ("{:,.0f}", "seconds of computations"),
    "upload_bytes": ("{:,.0f}", "bytes of files and texts"),
    "store_bytes": ("{:,.0f}", "bytes of the store"),
    "download_bytes": ("{:,.0f}", "bytes of downloads"),
    "dollars": ("${:,.4f}", "of the server's key"),
    "tokens": ("{:,.0f}", "tokens with the server's key"),
}


class QuotaSpent(ValueError):
    """An account has used up its share of today; the message says of what, and until when."""


@dataclass(frozen=True)
class Reservation:
    """Use that was written down before it happened."""

    account: str
    """Whose."""
    day: str
    """Of which day, so that what ends after midnight is set right where it was written."""
    amounts: Mapping[str, float]
    """How much of what."""


class Ledger:
    """Use by account and day (UTC), safe between threads and processes on one store."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch; tests pass their own."""
        self.store, self._clock = store, clock
        self._lock = threading.Lock()

    def used(self, account: str, *, day: str | None = None) -> dict[str, float]:
        """What an account has used today, or on another day; reserved use counts."""
        found = self.store.get(_key(account, day or self.today()), JSON, paid=True)
        if not isinstance(found, dict):
            return {}
        return {name: float(amount) for name, amount in found.items()}

    def reserve(self, account: str, limits: Mapping[str, float], **amounts: float) -> Reservation:
        """Write down use that is about to happen; all of it, or nothing and QuotaSpent.

        `limits` are those of the day; what has none is only counted.
        """
        day = self.today()
        self._check(amounts)
        with self._alone():
            used = self.used(account, day=day)
            for name, amount in amounts.items():
                limit = limits.get(name, math.inf)
                if used.get(name, 0.0) + amount > limit:
                    raise QuotaSpent(self.sentence(name, used.get(name, 0.0), limit))
            self._put(account, day, used, amounts)
        return Reservation(account, day, dict(amounts))

    def settle(self, reserved: Reservation, **real: float) -> None:
        """Replace what was reserved by what it came to; to be called once.

        A store that refuses leaves what was reserved, which is logged: the account loses, not the
        server.
        """
        differences = {
            name: real.get(name, 0.0) - reserved.amounts.get(name, 0.0)
            for name in {*reserved.amounts, *real}
        }
        try:
            with self._alone():
                used = self.used(reserved.account, day=reserved.day)
                self._put(reserved.account, reserved.day, used, differences)
        except (StoreError, OSError):
            log.exception("Use of today could not be set right; it stays at what was reserved")

    def sentence(self, name: str, used: float, limit: float) -> str:
        """Why no more of something is to be had today."""
        amount, what = _WORDS.get(name, ("{:,.0f}", name))
        now = datetime.fromtimestamp(self._clock(), UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        hours = (midnight - now).total_seconds() / 3600
        return (
            f"Your share of today is {amount.format(limit)} {what}, of which {amount.format(used)} "
            f"are used or set aside; go on in {hours:.1f} hours (midnight UTC), or ask the "
            "administrator."
        )

    def today(self) -> str:
        """The day that counts, in UTC."""
        return datetime.fromtimestamp(self._clock(), UTC).date().isoformat()

    def accounts(self) -> list[str]:
        """Everybody who has used something today, in alphabetical order."""
        return sorted(self.store.get(_names(self.today()), JSON, paid=True) or [])

    def _put(
        self, account: str, day: str, used: Mapping[str, float], more: Mapping[str, float]
    ) -> None:
        names = {*used, *more}
        summed = {name: max(0.0, used.get(name, 0.0) + more.get(name, 0.0)) for name in names}
        self.store.put(_key(account, day), summed, JSON, paid=True)
        listed = self.store.get(_names(day), JSON, paid=True) or []
        if account not in listed:
            self.store.put(_names(day), [*listed, account], JSON, paid=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # This process's lock first: the one between processes polls.
        with self._lock, alone_with(self.store, "ledger"):
            yield

    @staticmethod
    def _check(amounts: Mapping[str, float]) -> None:
        for name, amount in amounts.items():
            if not (math.isfinite(amount) and amount >= 0):
                raise ValueError(f"{name} is {amount}; reserve a finite amount from 0 up.")


def _key(account: str, day: str) -> Key:
    return Key("used", _VERSION, {"account": account, "day": day})


def _names(day: str) -> Key:
    return Key("used-by", _VERSION, {"day": day})
