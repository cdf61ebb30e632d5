"""On whose behalf a thread works: may it compute, may it fetch, and who counts what it keeps?

A job of somebody who may only see what was computed before runs the same code as anybody's, and
ends with a sentence where it would begin to compute. Without a word, everything is allowed, as in
a notebook.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class NotStored(ValueError):
    """Something would have to be computed for somebody who may not start computations."""


class NotFetched(ValueError):
    """Something would have to be downloaded for somebody who may not."""


class NotThere(BaseException):
    """Something was wanted that is not stored, where one only looks.

    No `Exception`: work that goes on where a part of it is refused would hand out half a result.
    """


@dataclass(frozen=True)
class Asking:
    """What holds for one thread while it works."""

    may_compute: bool = True
    """Whether what is not stored may be computed and kept."""
    may_fetch: bool = True
    """Whether models, SAEs and datasets that are not on this machine may be downloaded."""
    keeps: Callable[[int], None] | None = None
    """Told the bytes of each value that is kept."""
    fetches: Callable[[int], Callable[[int], None]] | None = None
    """Told the bytes that are about to be downloaded; raises where they are too many, and gives
    what is to be told those that came."""
    account: str = ""
    """Whose share of the store the results take; nobody's where it is empty."""


_ASKING: ContextVar[Asking] = ContextVar("asking", default=Asking())  # noqa: B039 - it is frozen
_LOOKING: ContextVar[bool] = ContextVar("looking", default=False)


@contextmanager
def asking(new: Asking) -> Iterator[None]:
    """What holds for this thread until the block ends."""
    token = _ASKING.set(new)
    try:
        yield
    finally:
        _ASKING.reset(token)


@contextmanager
def looking() -> Iterator[None]:
    """This thread only looks whether all that it wants is stored, until the block ends.

    `NotThere` is raised where something would be computed or downloaded, whoever asks.
    """
    token = _LOOKING.set(True)
    try:
        yield
    finally:
        _LOOKING.reset(token)


def may_compute() -> bool:
    """Whether what is not stored may be computed and kept."""
    return _ASKING.get().may_compute and not _LOOKING.get()


def check_may_compute() -> None:
    """To be called before something is computed. Raises NotStored; NotThere where one looks."""
    if _LOOKING.get():
        raise NotThere
    if not may_compute():
        raise NotStored(
            "This has not been computed on this server yet, and you may see only what has; ask "
            "somebody who may start computations to open this page once."
        )


def check_may_fetch(what: str) -> None:
    """To be called before `what` is downloaded. Raises NotFetched; NotThere where one looks."""
    if _LOOKING.get():
        raise NotThere
    if not _ASKING.get().may_fetch:
        raise NotFetched(
            f"{what} is not on this server, and only its administrators may download; ask one of "
            "them, or choose something that is here."
        )


@contextmanager
def fetching(n_bytes: int) -> Iterator[Callable[[int], None]]:
    """To be held while `n_bytes` or fewer are downloaded; yields what is told how many came so far.

    What is never told counts as all of them. Raises ValueError where they go beyond a share.
    """
    begin = _ASKING.get().fetches
    settle = begin(n_bytes) if begin is not None and n_bytes else None
    came = [n_bytes]
    try:
        yield lambda so_far: came.__setitem__(0, so_far)
    finally:
        if settle is not None:
            settle(came[0])


def account() -> str:
    """Whose share of the store this thread's results take; "" for nobody's."""
    return _ASKING.get().account


def kept(n_bytes: int) -> None:
    """To be called when a value was kept."""
    count = _ASKING.get().keeps
    if count is not None:
        count(n_bytes)
