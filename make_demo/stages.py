"""Resumable stages: a finished one leaves a stamp and is run again only when its recipe changes."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def digest(*parts: Any) -> str:
    """Hash of dataclasses and plain values, the same in every process."""
    plain = [
        asdict(part) if is_dataclass(part) and not isinstance(part, type) else part
        for part in parts
    ]
    return sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Stages:
    """Runs stages in `folder`; each gets a folder of its own for what it writes.

    A stamp holds the digest of the stage's inputs, its result (JSON), the seconds it took and the
    machine. An interrupted stage has no stamp, finds the files it left, and may go on from them.
    """

    def __init__(self, folder: Path, *, machine: str = "") -> None:
        """`machine` is noted with each stage that runs: a demo may be made on several."""
        self.folder, self.machine = folder, machine
        self.results: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.machines: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """The folder of stage `name`."""
        return self.folder / name

    def run(self, name: str, inputs_digest: str, work: Callable[[Path], Any]) -> Any:
        """The result of `work(folder)`, from the stamp where the digest is unchanged."""
        stage = self.path(name)
        stamp = stage / "stamp.json"
        started_stamp = stage / "started.json"
        if stamp.exists():
            saved = json.loads(stamp.read_text())
            if saved["digest"] == inputs_digest:
                logger.info("%s: done before", name)
                self.results[name], self.seconds[name] = saved["result"], saved["seconds"]
                self.machines[name] = saved.get("machine", "")
                return saved["result"]
        earlier = 0.0
        if started_stamp.exists():
            started = json.loads(started_stamp.read_text())
            if started["digest"] == inputs_digest:
                earlier = started["seconds"]
            else:
                shutil.rmtree(stage)  # files of another recipe must not be resumed from
        stage.mkdir(parents=True, exist_ok=True)
        started_stamp.write_text(json.dumps({"digest": inputs_digest, "seconds": earlier}))
        logger.info("%s: started", name)
        begin = time.monotonic()
        try:
            result = work(stage)
        finally:
            seconds = earlier + time.monotonic() - begin
            started_stamp.write_text(json.dumps({"digest": inputs_digest, "seconds": seconds}))
        saved = {"digest": inputs_digest, "result": result, "seconds": seconds}
        stamp.write_text(json.dumps({**saved, "machine": self.machine}, indent=1))
        logger.info("%s: finished in %.0f s", name, seconds)
        self.results[name], self.seconds[name] = result, seconds
        self.machines[name] = self.machine
        return result
