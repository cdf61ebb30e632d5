"""A line for each download, removal, refusal and question that was paid for, and who did it.

Lines are JSON, one object each, in a file that only the server's user can read. No text of a
reader, no key, no address of a service is among what is written.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.hosting.people import Person

log = logging.getLogger(__name__)


class Audit:
    """The file; without one, nothing is written."""

    def __init__(self, file: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self.file, self._clock = file, clock

    def write(self, person: Person, action: str, *, outcome: str = "done", **facts: Any) -> None:
        """Add a line. A disk that refuses is logged, and the action goes on.

        `facts` are names of models, counts and amounts.
        """
        if self.file is None:
            return
        now = self._clock()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e3):03}Z"
        line = {"at": moment, "who": person.id, "role": person.role.name.lower()}
        line |= {"action": action, "outcome": outcome}
        shown = {name: it[:200] if isinstance(it, str) else it for name, it in facts.items()}
        data = (json.dumps(line | shown, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, data)  # one call: lines of several threads do not mix
            finally:
                os.close(descriptor)
        except OSError:
            log.exception("The audit line of %s could not be written", action)
