"""The user's folders, looked at afresh at every call while they are few, and in the background
once they are many: thousands of folders take seconds, which no run of a page should wait for.
"""

import logging
import threading
import time
from collections.abc import Callable

from core.catalog.entries import ReleaseEntry, SaeEntry

log = logging.getLogger(__name__)

Listing = list[tuple[ReleaseEntry, tuple[SaeEntry, ...]]]

FEW = 400
"""SAEs that are looked at afresh each time: about a fifth of a second."""
_REST = 10.0
"""A listing of many is kept for at least so many times as long as it took to make."""
_LEAST_SECONDS = 5.0


class Scan:
    """Hands out the latest listing; threads share it, and never make it twice at a time."""

    def __init__(
        self, look: Callable[[], Listing], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` makes a listing; nothing is looked at before the first call."""
        self._look, self._clock = look, clock
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        self._due = 0.0
        self._background: threading.Thread | None = None

    def __call__(self) -> Listing:
        """What lies there: now where it is little, else a short while ago at the most."""
        with self._lock:
            known = self._listing
            if known is None or sum(len(entries) for _, entries in known) <= FEW:
                return self._make()
            if self._clock() >= self._due and self._background is None:
                self._background = threading.Thread(
                    target=self._refresh, name="scan-of-saes", daemon=True
                )
                self._background.start()
            return known

    def wait(self) -> None:
        """Block until the background scan has ended, if one is under way."""
        thread = self._background
        if thread is not None:
            thread.join()

    def _make(self) -> Listing:
        began = self._clock()
        listing = self._look()
        ended = self._clock()
        self._listing = listing
        self._due = ended + max(_LEAST_SECONDS, _REST * (ended - began))
        return listing

    def _refresh(self) -> None:
        try:
            self._make()
        except Exception:  # the listing from before is still good
            log.exception("The folders of SAEs could not be looked at")
            self._due = self._clock() + _LEAST_SECONDS
        finally:
            self._background = None
