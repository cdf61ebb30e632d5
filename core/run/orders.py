"""What travels between the process that gives orders and its workers: names and small numbers.

Nothing here imports torch.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """One thing that any worker can do."""

    what: str
    """Method of `Worker`."""
    given: tuple[Any, ...]
    """Its arguments."""
    tokens: int = 0
    """Tokens that it reads, for the progress."""


@dataclass(frozen=True)
class Text:
    """What is read, by whom."""

    model: str
    """Name of the model."""
    saes: tuple[tuple[str, str], ...]
    """`(release, sae_id)` of each SAE."""
    tokens: str
    """File of the token set, in the folder that all share."""
    rows: int
    """Rows of the first batch, by which workers are compared."""


@dataclass(frozen=True)
class Seen:
    """What a worker has and computes, to be compared before it takes part."""

    where: str
    """Machine and process, for people."""
    device: str
    """Kind of device."""
    weights: tuple[str, ...]
    """Fingerprints of the model and the SAEs."""
    firings: str
    """Digest of all firings of a first batch."""


@dataclass(frozen=True)
class Report:
    """What came of an order."""

    answer: Any
    """What its method returned."""
    where: str
    """Machine and process, for people."""
    memory: int
    """Most bytes of memory of the process so far."""
