"""Workers for the tests of `core.run.on_ray`, which Ray's processes import by name; no torch.

Their orders end when others are at theirs, so that tests wait for what they are about and for no
clock. What they share lies in the folder of the settings.
"""

import os
import time
from pathlib import Path
from typing import Any

from core.run.orders import Order, Report
from core.settings import Settings

GO = "go"


class Meeting:
    """A worker that can wait for others."""

    def __init__(self, settings: Settings, threads: int) -> None:
        """Notes that it began."""
        self._folder = settings.cache_dir
        self._mark("begun")

    def carry_out(self, order: Order) -> Any:
        """As `core.run.worker.Worker`."""
        return getattr(self, order.what)(*order.given)

    def report(self, order: Order) -> Report:
        """As `core.run.worker.Worker`."""
        return Report(self.carry_out(order), str(os.getpid()), 1)

    def told(self) -> tuple[float, str, int]:
        """As `core.run.worker.Worker`; all but the first worker wait for the test's leave."""
        first = min(self.marks(self._folder, "begun"), key=lambda it: it.stat().st_mtime_ns)
        while first.name != str(os.getpid()) and not (self._folder / GO).is_file():
            time.sleep(0.01)
        return 0.0, str(os.getpid()), 1

    def name(self) -> str:
        """Process of this worker."""
        return str(os.getpid())

    def meet(self, n: int) -> str:
        """Ends once `n` workers were here."""
        self._mark("met")
        while len(self.marks(self._folder, "met")) < n:
            time.sleep(0.01)
        return self.name()

    def wait_for(self, mark: str) -> str:
        """Ends once the test has left this mark."""
        while not (self._folder / mark).is_file():
            time.sleep(0.01)
        return self.name()

    def break_down(self) -> None:
        """An error that no code of ours raises on purpose."""
        raise TypeError("broken")

    @staticmethod
    def marks(folder: Path, what: str) -> list[Path]:
        """A file for each process that did it."""
        return list((folder / what).glob("*"))

    def _mark(self, what: str) -> None:
        (self._folder / what).mkdir(exist_ok=True)
        (self._folder / what / str(os.getpid())).touch()
