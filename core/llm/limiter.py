"""How many questions may be on their way: fewer while the service says it is busy."""

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import Any

_POLL_SECONDS = 0.01


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, as in TCP; used from one event loop.

    A refusal halves the limit (once for all questions that were sent before it), an answer raises
    it by 1 / limit, so that it grows by about one for each round of answers.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        """The limit when all is well."""
        self.limit = float(most)
        """The limit now; at least 1."""
        self.running = 0
        """Questions on their way."""
        self._open_at = 0.0
        self._lowered_at = -1.0

    async def enter(self) -> float:
        """Wait for a place; the moment at which it was given, for `busy`."""
        while self.running >= int(self.limit) or time.monotonic() < self._open_at:
            await asyncio.sleep(_POLL_SECONDS)
        self.running += 1
        return time.monotonic()

    def leave(self) -> None:
        """Give the place back."""
        self.running -= 1

    def succeeded(self) -> None:
        """An answer came."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def busy(self, entered: float, wait_seconds: float) -> None:
        """A question that entered then was refused; nothing is sent for `wait_seconds`."""
        self._open_at = max(self._open_at, time.monotonic() + wait_seconds)
        if entered > self._lowered_at:
            self.limit = max(1.0, self.limit / 2)
            self._lowered_at = time.monotonic()


def retry_after(error: Any) -> float | None:
    """Seconds that the service asks to wait; None when it does not say, or says nonsense."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if seconds == seconds:
            return max(0.0, seconds)
    return None
