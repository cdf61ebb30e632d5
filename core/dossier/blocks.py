"""What a section shows, as plain pieces that a page, HTML and Markdown draw alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.dossier.measure import Measure
from core.latent.examples import ExampleRow


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    """The text, without markup."""


@dataclass(frozen=True)
class Numbers:
    """Measures in a table."""

    measures: tuple[Measure, ...]
    """The numbers."""


@dataclass(frozen=True)
class Grid:
    """A table."""

    title: str
    """What it shows."""
    columns: tuple[str, ...]
    """Names of its columns."""
    rows: tuple[tuple[Any, ...], ...]
    """Texts, numbers, or None."""
    note: str = ""
    """What has to be known to read it."""
    shares: tuple[str, ...] = ()
    """Columns that are shares, to be shown in per cent."""
    wraps: bool = False
    """Whether it holds sentences, which have to be read whole."""

    def cells(self) -> list[list[str]]:
        """All of it as texts."""
        return [
            [
                shown(cell, is_share=name in self.shares)
                for name, cell in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Texts:
    """Examples, tokens shaded by activation."""

    title: str
    """What they are."""
    rows: tuple[ExampleRow, ...]
    """The examples."""
    strongest: float
    """Activation of the full shade."""


@dataclass(frozen=True)
class Bars:
    """A histogram."""

    title: str
    """What it shows."""
    counts: tuple[float, ...]
    """Height of each bar."""
    labels: tuple[str, ...]
    """What each bar stands for."""
    other: tuple[float, ...] = ()
    """Heights to compare with, as a line; empty for none."""
    note: str = ""
    """How to read it."""


@dataclass(frozen=True)
class Picture:
    """A picture."""

    title: str
    """What it shows."""
    png: bytes
    """The file."""
    note: str
    """What is to be seen, for those who do not see it too."""


Block = Prose | Numbers | Grid | Texts | Bars | Picture


@dataclass(frozen=True)
class Chapter:
    """One part of the document."""

    name: str
    """Name of the part."""
    title: str
    """Its heading."""
    question: str
    """What it answers."""
    blocks: tuple[Block, ...]
    """What it shows."""


def grid(
    title: str,
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    note: str = "",
    shares: Sequence[str] = (),
    wraps: bool = False,
) -> Grid:
    """A table's columns, those that it has, as a block."""
    some = table[[name for name in columns if name in table]]
    rows = [tuple(map(_plain, row)) for row in some.itertuples(index=False, name=None)]
    return Grid(title, tuple(map(str, some.columns)), tuple(rows), note, tuple(shares), wraps)


def shown(value: Any, *, is_share: bool = False) -> str:
    """A cell as text."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0%}" if is_share else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def measure_cells(it: Measure) -> tuple[str, ...]:
    """A measure as the cells of a line: what, value, interval, n, random latents, directions."""
    interval = f"{shown(it.low, is_share=it.is_share)} to {shown(it.high, is_share=it.is_share)}"

    def beside(kind: str) -> str:
        n = len(getattr(it, kind))
        mean = shown(it.chance(kind), is_share=it.is_share)
        return f"{mean} (p = {it.p(kind):.2f}, n = {n})" if n else "–"

    return (
        it.title,
        shown(it.value, is_share=it.is_share),
        interval if it.low == it.low else "–",
        f"{it.n:,} {it.of}" if it.n else "–",
        beside("latents"),
        beside("directions"),
    )


MEASURE_COLUMNS = ("what", "value", "95 % interval", "n", "random latents", "random directions")
"""Columns of `measure_cells`."""


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    return item() if callable(item) else value
