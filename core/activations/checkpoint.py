"""Statistics of a pass on disk, replaced as a whole, so that a killed pass goes on where it was."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.activations.config import IndexConfig
from core.activations.statistics import LatentStatistics
from core.store.codecs import ARRAYS
from core.store.frame import DamagedEntry, pack, unpack_as

log = logging.getLogger(__name__)

_VERSION = 1


class Checkpoint:
    """One file in `folder`, named by what the pass is made of; only the same pass reads it."""

    def __init__(self, folder: Path, identity: Any, config: IndexConfig, context: int) -> None:
        text = json.dumps([_VERSION, identity, asdict(config), context])
        self._name = hashlib.sha256(text.encode()).hexdigest()
        self._folder, self._config, self._context = folder, config, context
        self._file = folder / f"{self._name}.pass"

    def read(self) -> list[LatentStatistics] | None:
        """The statistics of each SAE as written last; None when there are none that are whole."""
        try:
            arrays = ARRAYS.decode(unpack_as(self._name, self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, DamagedEntry, ValueError) as error:
            log.warning("Starting over: the checkpoint %s is not usable (%s)", self._file, error)
            return None
        states: list[dict[str, Any]] = []
        for name, array in arrays.items():
            number, _, field = name.partition("/")
            while len(states) <= int(number):
                states.append({})
            states[int(number)][field] = array
        return [
            LatentStatistics.from_arrays(state, config=self._config, context=self._context)
            for state in states
        ]

    def write(self, states: Sequence[LatentStatistics]) -> None:
        """Store these statistics instead of earlier ones; a kill leaves one or the other.

        A disk that refuses is logged: the pass goes on, and could only not be resumed from here.
        """
        arrays = {
            f"{number}/{name}": array
            for number, state in enumerate(states)
            for name, array in state.to_arrays().items()
        }
        beside = self._file.with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(pack(self._name, ARRAYS.encode(arrays)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._file)
        except OSError as error:
            log.warning("The checkpoint %s could not be written (%s)", self._file, error)
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove them, and what killed writes left beside them."""
        for file in self._folder.glob(f"{self._name}.*"):
            file.unlink(missing_ok=True)
