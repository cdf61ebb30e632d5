"""What every kind of run is: made before or not, what it will cost, and the work."""

from typing import Protocol

from core.catalog.entries import SaeEntry
from core.jobs.progress import Progress
from core.run.cost import Cost
from core.shell import Machine


class Task(Protocol):
    """One run."""

    machine: Machine
    """Catalog, store and engine."""
    entries: tuple[SaeEntry, ...]
    """SAEs that it loads first."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def title(self) -> str:
        """What is done, for people."""

    def is_made(self) -> bool:
        """Whether the store has all of it, judged by names alone."""

    def estimate(self, progress: Progress) -> Cost:
        """What it will cost, measured on first shards; the weights are here. Raises as `run`."""

    def run(self, progress: Progress) -> list[str]:
        """Do it, or find what was done before: what came out and where it is seen, a line each.

        Raises ValueError in a sentence for what cannot be done, and JobCancelled.
        """
