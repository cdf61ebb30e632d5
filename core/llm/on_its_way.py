"""Questions that are on their way, written down before they are sent.

A process that is killed loses the answers it waits for, which the service may charge for all the
same. Each such question leaves a file behind, by which the next run knows and says that it asks
once more.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class OnItsWay:
    """One file for each question, in a folder beside the store.

    Whoever notes a question holds the store's lock of its answer, so that nobody else asks it.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "asked"

    def sent(self, question: str) -> bool:
        """Note that a question is about to be sent; whether it was sent before, by a process that
        ended without an answer.

        A disk that refuses is logged, and the question is asked: what it refuses then is not known.
        """
        file = self._folder / question
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = file.exists()
            # What the kernel has outlives this process; waiting for the disk would not.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError:
            log.exception("A question could not be noted before it is sent")
            return False
        return known

    def answered(self, question: str) -> None:
        """Note that a question is not on its way any more: its answer is kept, or it failed."""
        with suppress(OSError):
            (self._folder / question).unlink(missing_ok=True)
