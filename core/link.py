"""What of a page's view a link carries, and how an old or hand-typed link is read.

Only what differs from the default is in a link. Whatever in it cannot be used is replaced by its
default, with a sentence that says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class LinkField:
    """One field of a view, as a query parameter."""

    name: str
    """Field of the view's dataclass."""
    parameter: str
    """Name in the link."""
    read: Callable[[str], Any]
    """Value from text; raises ValueError with what would be right."""
    write: Callable[[Any], str] = str
    """Text from a value."""


class Link(Generic[V]):
    """Reads and writes views of one page, which are frozen dataclasses."""

    def __init__(self, default: V, fields: Sequence[LinkField]) -> None:
        self.default, self.fields = default, tuple(fields)
        self.parameters = tuple(field.parameter for field in fields)
        """Query parameters that carry a view."""

    def to_parameters(self, view: V) -> dict[str, str]:
        """The query parameters of a link to `view`."""
        return {
            field.parameter: field.write(getattr(view, field.name))
            for field in self.fields
            if getattr(view, field.name) != getattr(self.default, field.name)
        }

    def parse(self, parameters: Mapping[str, str]) -> tuple[V, tuple[str, ...]]:
        """The view that query parameters describe, and what of them cannot be used."""
        view: Any = self.default
        problems = []
        for field in self.fields:
            text = parameters.get(field.parameter)
            if not text:
                continue
            try:
                view = replace(view, **{field.name: field.read(text)})
            except ValueError as error:
                problems.append(f"{field.parameter} in this link cannot be used: {error}")
            except RecursionError:
                problems.append(f"{field.parameter} in this link cannot be used: it has no end.")
        return view, tuple(problems)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from `low` to `high`."""
    return lambda text: read_whole(text, low, high)


def real(low: float, high: float) -> Callable[[str], float]:
    """Reads a number from `low` to `high`."""
    return lambda text: read_real(text, low, high)


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Reads one of `names`."""
    return lambda text: read_one_of(text, names)


def short_text(most: int) -> Callable[[str], str]:
    """Reads a text of at most so many characters."""
    return lambda text: read_text(text, most)


def list_of(read: Callable[[str], Any], most: int) -> Callable[[str], tuple[Any, ...]]:
    """Reads at most so many values between commas."""

    def read_all(text: str) -> tuple[Any, ...]:
        parts = text.split(",")
        if len(parts) > most:
            raise ValueError(f"it holds {len(parts)} values; at most {most} can be used.")
        return tuple(read(part) for part in parts)

    return read_all


def write_list(values: Sequence[Any]) -> str:
    """Values between commas, numbers as short as they can be."""
    return ",".join(
        write_number(value) if isinstance(value, float) else str(value) for value in values
    )


def read_ranges(text: str, low: int, high: int, *, most: int = 100_000) -> tuple[int, ...]:
    """Ascending whole numbers from `low` to `high`, as `write_ranges` writes them.

    Raises ValueError for anything else, and for more than `most`.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = read_whole(first, low, high)
        end = read_whole(last, begin, high) if dash else begin
        if len(found) + end - begin + 1 > most:
            raise ValueError(f"it holds more than {most:,} numbers.")
        found += range(begin, end + 1)
    return tuple(sorted(set(found)))


def write_ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers as short as they can be: "3,7,10-14"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def write_number(value: float) -> str:
    """A number as short as it can be."""
    return repr(float(value)).removesuffix(".0")


def write_flag(value: bool) -> str:
    """1 for yes, 0 for no."""
    return str(int(value))


def read_whole(text: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`. Raises ValueError for anything else."""
    # int() would also take "1_000", " 7" and digits of other scripts.
    digits = text.removeprefix("-")
    if not (text.isascii() and digits.isdigit() and len(digits) <= 10 and low <= int(text) <= high):
        raise ValueError(f"{text[:40]!r} is not a whole number from {low} to {high}.")
    return int(text)


def read_float(text: str) -> float:
    """A number; not a number (NaN) for anything else."""
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def read_real(text: str, low: float, high: float) -> float:
    """A number from `low` to `high`. Raises ValueError for anything else."""
    value = read_float(text)
    if not low <= value <= high:
        raise ValueError(f"{text[:40]!r} is not a number from {low} to {high}.")
    return value


def read_flag(text: str) -> bool:
    """True for 1, False for 0. Raises ValueError for anything else."""
    if text not in ("0", "1"):
        raise ValueError(f"{text[:40]!r} is neither 1 (yes) nor 0 (no).")
    return text == "1"


def read_one_of(text: str, names: Sequence[str]) -> str:
    """One of `names`. Raises ValueError for anything else."""
    if text not in names:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(names)}.")
    return text


def read_text(text: str, most: int) -> str:
    """A text of at most so many characters. Raises ValueError for a longer one."""
    if len(text) > most:
        raise ValueError(f"it is longer than {most} characters.")
    return text
