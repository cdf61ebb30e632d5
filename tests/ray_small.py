"""The real worker, on short stretches, which is killed once; Ray's processes import it by name."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from core.run import worker
from core.run.orders import Order
from core.settings import Settings
from tests.headless import shorten


class Small(worker.Worker):
    """Reads nothing before two are there; the first that has read a few files is killed."""

    def __init__(self, settings: Settings, threads: int) -> None:
        """As `Worker`."""
        shorten(pytest.MonkeyPatch())  # for as long as this process lives
        super().__init__(settings, threads)
        self._folder, self._read = settings.cache_dir / "met", 0

    def carry_out(self, order: Order) -> Any:
        """As `Worker`."""
        if order.what == "keep":
            self._folder.mkdir(exist_ok=True)
            (self._folder / str(os.getpid())).touch()
            while len(list(self._folder.iterdir())) < 2:
                time.sleep(0.01)
            self._read += 1
            if self._read == 2 and _is_first(self._folder.parent / "killed"):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().carry_out(order)


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
