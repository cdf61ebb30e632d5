"""Statistics of parts of a text, as files that workers write and one process puts together.

What was put together is written down, too, and the files that are in it go: at most a few are there
at a time. Whoever comes after a kill goes on from both.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.activations.checkpoint import Checkpoint, read_states, write_states
from core.activations.config import IndexConfig
from core.activations.statistics import LatentStatistics, merge
from core.store.frame import DamagedEntry

log = logging.getLogger(__name__)

_VERSION = 1
_SAVE_SECONDS = 20.0

Span = tuple[int, int]
"""Rows [first, last)."""


class PartFile:
    """The statistics of some rows, in a file of their own."""

    def __init__(self, folder: Path, name: str, config: IndexConfig, context: int) -> None:
        """`name` says what the pass is made of (`pass_name`)."""
        self.folder, self.name = folder, name
        self._config, self._context = config, context

    def file(self, span: Span) -> Path:
        """Where those of these rows lie."""
        return self.folder / f"{self.name[:32]}-{span[0]:010d}-{span[1]:010d}.rows"

    def write(self, span: Span, states: Sequence[LatentStatistics]) -> None:
        """Write those of these rows. Raises OSError where the disk refuses."""
        write_states(self.file(span), self._whole_name(span), states)

    def read(self, span: Span) -> list[LatentStatistics] | None:
        """Those of these rows; None where they are not there or not whole."""
        file = self.file(span)
        try:
            states = read_states(
                self._whole_name(span),
                file.read_bytes(),
                config=self._config,
                context=self._context,
            )
        except FileNotFoundError:
            return None
        except (OSError, DamagedEntry, ValueError) as error:
            log.warning("The part %s of a pass is not usable (%s)", file, error)
            return None
        return states if all(it.rows.tolist() == [list(span)] for it in states) else None

    def spans(self) -> list[Span]:
        """Rows of all files that are there."""
        found = []
        for file in self.folder.glob(f"{self.name[:32]}-*.rows"):
            with suppress(ValueError):
                first, last = file.stem.split("-")[1:]
                found.append((int(first), int(last)))
        return sorted(found)

    def remove(self, span: Span) -> None:
        """Remove the file of these rows."""
        self.file(span).unlink(missing_ok=True)

    def _whole_name(self, span: Span) -> str:
        return f"{self.name}-{span[0]}-{span[1]}"


class Gathered:
    """What parts come to so far: equal, to the bit, to one pass over their rows."""

    def __init__(
        self, parts: PartFile, empty: Sequence[LatentStatistics], config: IndexConfig, context: int
    ) -> None:
        """Begins with what an earlier, killed process left."""
        self.parts = parts
        self._saved = Checkpoint(parts.folder, ["gathered", parts.name], config, context)
        self.states = self._saved.read() or list(empty)
        self._unsaved: list[Span] = []
        self._written = time.monotonic()
        for span in parts.spans():
            if self._overlaps(span) or not self.add(span):
                parts.remove(span)

    def add(self, span: Span) -> bool:
        """Take in the file of these rows; whether it was there, and whole."""
        states = self.parts.read(span)
        if states is None or len(states) != len(self.states):
            return False
        self.states = [merge(one, more) for one, more in zip(self.states, states, strict=True)]
        self._unsaved.append(span)
        return True

    def save(self) -> None:
        """Write down what was taken in, and remove its files."""
        self._written = time.monotonic()
        if self._unsaved and self._saved.write(self.states):
            for span in self._unsaved:
                self.parts.remove(span)
            self._unsaved.clear()

    def save_if_due(self) -> None:
        """`save`, if that was not done lately."""
        if time.monotonic() - self._written >= _SAVE_SECONDS:
            self.save()

    def end(self) -> None:
        """Remove all of it from the disk."""
        self._saved.remove()
        for span in self.parts.spans():
            self.parts.remove(span)

    def missing(self, n_rows: int) -> list[Span]:
        """Rows that are not in yet."""
        ends = [0, *(int(last) for _, last in self.states[0].rows)]
        begins = [*(int(first) for first, _ in self.states[0].rows), n_rows]
        return [(last, first) for last, first in zip(ends, begins, strict=True) if last < first]

    def _overlaps(self, span: Span) -> bool:
        return any(span[0] < last and first < span[1] for first, last in self.states[0].rows)


def pass_name(identity: Any, config: IndexConfig, context: int) -> str:
    """What the files of one pass are known by; `identity` is everything that it is made of."""
    text = json.dumps([_VERSION, "parts", identity, asdict(config), context])
    return hashlib.sha256(text.encode()).hexdigest()


def cut(spans: Sequence[Span], step: int, most: int) -> list[Span]:
    """Spans of rows cut where stretches of `step` rows begin, at most `most` stretches each."""
    found = []
    for first, last in spans:
        starts = list(range(first, last, step * most))
        found += list(zip(starts, [*starts[1:], last], strict=True))
    return found
