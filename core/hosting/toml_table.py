"""A table of a TOML file, whose every fault is a sentence with file, key and remedy."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def plain_name(text: str) -> str:
    """What is wrong with the name of a header; "" for nothing."""
    return "" if re.fullmatch(r"[A-Za-z0-9-]{1,80}", text) else "use letters, digits and hyphens"


@dataclass(frozen=True)
class Table:
    """One table of the file."""

    file: str
    """Path of the file."""
    name: str
    """Name of the table, with a dot behind it; "" for the whole file."""
    content: Mapping[str, Any]
    """Its keys and values."""

    def wrong(self, key: str, what: str, remedy: str) -> ValueError:
        """The error of one key."""
        return ValueError(f"The policy {self.file}: {self.name}{key} {what}; {remedy}.")

    def only(self, *names: str) -> None:
        """Raises ValueError for a key that nobody reads: a misspelt limit would be none."""
        for key in self.content:
            if key not in names:
                raise self.wrong(key, "is not known", f"use one of {', '.join(names)}")

    def part(self, key: str) -> "Table":
        """A table within; an empty one where it is not there."""
        content = self.content.get(key, {})
        if not isinstance(content, dict):
            raise self.wrong(key, f"is {content!r:.60}", f"write it as a table, [{self.name}{key}]")
        return Table(self.file, f"{self.name}{key}.", content)

    def text(self, key: str, default: str, *, check: Callable[[str], str] | None = None) -> str:
        """A text."""
        value = self.content.get(key, default)
        if not isinstance(value, str) or not value.isprintable():
            raise self.wrong(key, f"is {value!r:.60}", "write a text in quotes")
        remedy = check(value) if check is not None else ""
        if remedy:
            raise self.wrong(key, f"is {value!r:.60}", remedy)
        return value

    def texts(
        self, key: str, check: Callable[[str], str], *, default: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """A list of texts, of each of which `check` says what is wrong, or ""."""
        value = self.content.get(key, list(default))
        if not isinstance(value, list) or not all(isinstance(it, str) for it in value):
            raise self.wrong(key, f"is {value!r:.60}", "write a list of texts in quotes")
        for text in value:
            if remedy := check(text):
                raise self.wrong(key, f"holds {text!r:.60}", remedy)
        return tuple(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {value!r:.60}", "use true or false")
        return value

    def number(
        self, key: str, *, default: float, whole: bool = False, positive: bool = False
    ) -> Any:
        """A number from 0 up, or above 0; an int where it must be `whole`."""
        value = self.content.get(key, default)
        kinds = int if whole else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < 0 or (positive and value == 0):
            least = "above 0" if positive else "from 0 up"
            raise self.wrong(
                key, f"is {value!r:.60}", f"use a {'whole ' if whole else ''}number {least}"
            )
        return value if whole else float(value)

    def numbers(self, key: str, *, length: int) -> list[float]:
        """A list of so many numbers from 0 up."""
        value = self.content.get(key)
        if not isinstance(value, list) or len(value) != length:
            raise self.wrong(key, f"is {value!r:.60}", f"write a list of {length} numbers")
        inner = Table(self.file, f"{self.name}{key}.", dict(enumerate(value)))  # type: ignore[arg-type]
        return [inner.number(place, default=0) for place in inner.content]
