"""GET with bounded patience: timeouts, retries, a limit on size, and a way to stop."""

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from core.neuronpedia.errors import NeuronpediaError

T = TypeVar("T")

_CHUNK = 64 << 10
_POLL_SECONDS = 0.05
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to try again."""

    connect_seconds: float = 5.0
    """To open a connection."""
    read_seconds: float = 20.0
    """Between two pieces of an answer."""
    answer_seconds: float = 180.0
    """For one whole answer, so that a trickle of bytes ends too."""
    attempts: int = 4
    """Requests in all before giving up."""
    backoff_seconds: float = 0.5
    """Wait before the second attempt; doubled before each further one."""
    longest_wait_seconds: float = 30.0
    """A server that asks for a longer pause than this is not waited for."""


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    """HTTP status; always below 500, and never 429."""
    body: bytes
    """Its bytes as they came, not decompressed."""


class _TryAgain(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, sentence: str, wait_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds


def interruptible(call: Callable[[], T], *, check: Callable[[], None]) -> T:
    """`call()` in a thread; what `check` raises meanwhile ends the wait, not the call.

    A read blocks until its timeout; the one who waits for it need not.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="neuronpedia")
    try:
        future = pool.submit(call)
        while True:
            check()
            try:
                return future.result(_POLL_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
    finally:
        pool.shutdown(wait=False)


def get(
    session: requests.Session,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    patience: Patience,
    check: Callable[[], None],
    max_bytes: int,
    expect_bytes: int | None = None,
    received: Callable[[int], None] = lambda _: None,
) -> Answer:
    """One GET, tried again after cut connections, timeouts, 429 and 5xx.

    Args:
        session: carries proxies and connections.
        url: http or https.
        params: of the query.
        patience: timeouts and attempts.
        check: called at least every 64 KiB and while waiting; what it raises ends the request.
        max_bytes: a larger answer is refused.
        expect_bytes: an answer of status 200 with another length counts as cut.
        received: called with the bytes of this attempt so far; 0 when a new one begins.

    Raises:
        NeuronpediaError: no complete answer after all attempts, or too large an answer.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    for attempt in range(1, patience.attempts + 1):
        check()
        received(0)
        try:
            return _attempt(
                session, url, params, patience, check, max_bytes, expect_bytes, received
            )
        except _TryAgain as failure:
            asked = failure.wait_seconds
            if asked is not None and asked > patience.longest_wait_seconds:
                raise NeuronpediaError(
                    f"{host} limits how often you may ask and wants {asked:.0f} s of pause; try"
                    " again after that."
                ) from failure
            if attempt == patience.attempts:
                raise NeuronpediaError(
                    f"{host} {failure}; check the network and try again later (what has arrived"
                    " is kept)."
                ) from failure
            backoff = patience.backoff_seconds * 2 ** (attempt - 1)
            # Jitter: several threads that were refused together should not return together.
            _wait(max(asked or 0.0, backoff * random.uniform(0.75, 1.25)), check)
    raise ValueError(f"patience.attempts is {patience.attempts}; at least 1 is needed.")


def _attempt(
    session: requests.Session,
    url: str,
    params: Mapping[str, str] | None,
    patience: Patience,
    check: Callable[[], None],
    max_bytes: int,
    expect_bytes: int | None,
    received: Callable[[int], None],
) -> Answer:
    started = time.monotonic()
    body = bytearray()
    begun = False
    try:
        with session.get(
            url,
            params=params,
            stream=True,
            timeout=(patience.connect_seconds, patience.read_seconds),
            headers={"Accept-Encoding": "identity"},
        ) as response:
            if response.status_code in _RETRIED_STATUS:
                raise _TryAgain(
                    f"answered with an error ({response.status_code})",
                    _retry_after(response.headers.get("Retry-After")),
                )
            begun = True
            # raw, not iter_content: that would decompress, and with it any bomb. read1, not read:
            # that would wait for a whole chunk, however slowly it comes.
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                body += chunk
                if len(body) > max_bytes:
                    raise NeuronpediaError(
                        f"{url} is larger than {max_bytes:,} bytes, which no export should be; it"
                        " was not read."
                    )
                received(len(body))
                check()
                if time.monotonic() - started > patience.answer_seconds:
                    raise _TryAgain("sends too slowly")
            declared = response.headers.get("Content-Length", "")
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _TryAgain("does not answer in time") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
        raise NeuronpediaError(
            f"{url} leads nowhere; check NEURONPEDIA_URL and NEURONPEDIA_DATASETS_URL."
        ) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise _TryAgain("cut the connection" if begun else "cannot be reached") from error
    expected = expect_bytes if response.status_code == 200 else None
    if expected is None and declared.isdecimal():
        expected = int(declared)
    if expected is not None and len(body) != expected:
        raise _TryAgain(f"sent {len(body):,} bytes of {expected:,}")
    return Answer(response.status_code, bytes(body))


def _wait(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(_POLL_SECONDS, left))


def _retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: it holds seconds or a date."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
