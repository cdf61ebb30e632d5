"""Whose results the store holds: an account and a kind of result, written beside each value."""

from dataclasses import dataclass

from core.store.tier import TierUsage

_BETWEEN = "\x1f"


@dataclass(frozen=True)
class Owned:
    """Results of one kind that the jobs of one account computed."""

    account: str
    """Whose share of the store they take."""
    kind: str
    """Which computation, as `Key.kind`."""
    entries: int
    """How many values."""
    bytes: int
    """Their size."""


def owner_of(account: str, kind: str) -> str | None:
    """How that is written beside a value; None for nobody's."""
    return f"{account}{_BETWEEN}{kind}" if account else None


def span_of(account: str | None) -> tuple[str, str]:
    """Owners of an account, or of all, as a span of the alphabet: its end is not in it."""
    if account is None:
        return "", chr(0x10FFFF)
    return f"{account}{_BETWEEN}", f"{account}{chr(ord(_BETWEEN) + 1)}"


def parted(owner: str, usage: TierUsage) -> Owned:
    """The same, read."""
    account, _, kind = owner.partition(_BETWEEN)
    return Owned(account, kind, usage.entries, usage.bytes)
