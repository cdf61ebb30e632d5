"""Statistics of a pass on disk, replaced as a whole, so that a killed pass goes on where it was."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.activations.config import IndexConfig
from core.activations.statistics import LatentStatistics
from core.store.codecs import ARRAYS
from core.store.frame import DamagedEntry, pack, unpack_as
from core.store.leftovers import write_whole

log = logging.getLogger(__name__)

_VERSION = 1


def write_states(file: Path, name: str, states: Sequence[LatentStatistics]) -> None:
    """Write statistics of several SAEs as one file, whole or not at all. Raises OSError."""
    arrays = {
        f"{number}/{field}": array
        for number, state in enumerate(states)
        for field, array in state.to_arrays().items()
    }
    write_whole(file, pack(name, ARRAYS.encode(arrays)))


def read_states(
    name: str, data: bytes, *, config: IndexConfig, context: int
) -> list[LatentStatistics]:
    """What `write_states` wrote. Raises DamagedEntry or ValueError where it is not whole."""
    states: list[dict[str, Any]] = []
    for key, array in ARRAYS.decode(unpack_as(name, data)).items():
        number, _, field = key.partition("/")
        while len(states) <= int(number):
            states.append({})
        states[int(number)][field] = array
    return [LatentStatistics.from_arrays(it, config=config, context=context) for it in states]


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
            data = self._file.read_bytes()
            return read_states(self._name, data, config=self._config, context=self._context)
        except FileNotFoundError:
            return None
        except (OSError, DamagedEntry, ValueError) as error:
            log.warning("Starting over: the checkpoint %s is not usable (%s)", self._file, error)
            return None

    def write(self, states: Sequence[LatentStatistics]) -> bool:
        """Store these statistics instead of earlier ones; a kill leaves one or the other.

        Whether they are there now.

        A disk that refuses is logged: the pass goes on, and could only not be resumed from here.
        """
        try:
            write_states(self._file, self._name, states)
        except OSError as error:
            log.warning("The checkpoint %s could not be written (%s)", self._file, error)
            return False
        return True

    def remove(self) -> None:
        """Remove them, and what killed writes left beside them."""
        for file in self._folder.glob(f"{self._name}.*"):
            file.unlink(missing_ok=True)
