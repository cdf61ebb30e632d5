"""Texts while they are written: what is there is published a few times a second."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from core.steering.result import SteerResult
from core.tokens import TokenTexts, texts_of_row

_SECONDS = 0.25


class Writing:
    """Rows that are done, and the texts of those that are on their way."""

    def __init__(
        self,
        about: Sequence[Mapping[str, Any]],
        made: Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], SteerResult],
        publish: Callable[[SteerResult], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`about` says what each row is, `made` makes a result of rows and texts."""
        self._about, self._made, self._publish, self._clock = about, made, publish, clock
        self._rows: list[Mapping[str, Any]] = []
        self._texts: list[Mapping[str, Any]] = []
        self._growing: dict[tuple[int, int], Sequence[int]] = {}
        self._told = float("-inf")

    def grows(
        self,
        first: int,
        tokens: TokenTexts,
        keys: Sequence[tuple[int, int]],
        new: Sequence[Sequence[int]],
        ends: Collection[int] = (),
    ) -> None:
        """Texts of a batch whose row 0 is row `first`; told unless something was told just now.

        `ends` are tokens that end a text and are no part of it.
        """
        # Those of a batch before it stay as they ended, until all of the turn are measured.
        for (number, sample), ids in zip(keys, new, strict=True):
            self._growing[first + number, sample] = ids
        now = self._clock()
        if now - self._told < _SECONDS:
            return
        self._told = now
        numbers = dict.fromkeys(number for number, _ in self._growing)
        rows = [{"row": it, **self._about[it]} for it in numbers]
        texts = [
            {
                "row": number,
                "sample": sample,
                "text": texts_of_row(tokens, ids[:-1] if ids and ids[-1] in ends else ids).text,
            }
            for (number, sample), ids in self._growing.items()
        ]
        self._publish(self._made([*self._rows, *rows], [*self._texts, *texts]))

    def done(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[Mapping[str, Any]]) -> None:
        """Rows are written and measured."""
        self._rows += rows
        self._texts += texts
        self._growing.clear()
        self._publish(self.result())

    def result(self) -> SteerResult:
        """All that is done."""
        return self._made(self._rows, self._texts)
