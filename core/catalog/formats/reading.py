"""Small files of strangers, read so that nothing in them can do more than be refused.

Parsed configs and headers are kept by time and size of their file: a listing that is asked for at
every click parses nothing twice.
"""

import json
import math
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.catalog.sae_kinds import quote
from core.weight_files import safetensors_problem

MAX_CONFIG_BYTES = 1_000_000
MAX_NUMBER = 2**31 - 1
"""Largest d_in or d_sae that is believed."""
MAX_NAME = 300
"""Longest name of a model or a site that is believed, in characters."""
_REMEMBERED = 65_536
"""Files whose contents are kept: more than anybody lists, for a few hundred bytes each."""

Shapes = dict[str, tuple[int, ...]]


def read_object(path: Path) -> tuple[dict[str, Any], str | None]:
    """The object in a JSON file, or `{}` and what is wrong with the file."""
    try:
        found = path.stat()
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}."
    if not stat.S_ISREG(found.st_mode):  # a named pipe would be waited for without end
        return {}, f"{path} is {_kind(found.st_mode)} and should be a file; copy it there again."
    return _object(path, found.st_mtime_ns, found.st_size)


def tensor_shapes(path: Path) -> tuple[Shapes, str | None]:
    """Shapes of the tensors in a whole safetensors file by name, or `{}` and what is wrong."""
    try:
        found = path.stat()
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}."
    if not stat.S_ISREG(found.st_mode):  # a named pipe would be waited for without end
        return {}, f"{path} is {_kind(found.st_mode)} and should be a file; copy it there again."
    return _shapes(path, found.st_mtime_ns, found.st_size)


def positive_int(value: object) -> int | None:
    """`value` where it is a whole number from 1 to 2**31 - 1, else None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 1 <= value <= MAX_NUMBER else None


def finite(value: object) -> float | None:
    """`value` as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def name_of(value: object) -> str | None:
    """`value` where it can be a name: a printable text of 1 to `MAX_NAME` characters."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= MAX_NAME:
        return value.strip()
    return None


def sizes_problem(path: Path, config: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """A sentence where one of the sizes `names` in a config is no positive number."""
    for name in names:
        if positive_int(config.get(name)) is None:
            return (
                f"{path} gives {name} as {quote(config.get(name))}; it must be a whole number from"
                " 1, so correct it or copy the file again."
            )
    return None


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


@lru_cache(maxsize=_REMEMBERED)
def _object(path: Path, mtime_ns: int, size: int) -> tuple[dict[str, Any], str | None]:
    if size > MAX_CONFIG_BYTES:
        return {}, f"{path} has {size} bytes; a config is smaller than {MAX_CONFIG_BYTES}."
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        return {}, f"{path} is not readable JSON: it is not UTF-8 text; copy it again."
    except RecursionError:
        return {}, f"{path} is not readable JSON: it is nested too deeply; copy it again."
    except ValueError as error:  # broken JSON, or a number of thousands of digits
        return {}, f"{path} is not readable JSON: {error}."
    if not isinstance(content, dict):
        return {}, f"{path} holds a {type(content).__name__}, not an object."
    return content, None


@lru_cache(maxsize=_REMEMBERED)
def _shapes(path: Path, mtime_ns: int, size: int) -> tuple[Shapes, str | None]:
    problem = safetensors_problem(path)
    if problem is not None:
        return {}, problem
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    try:
        shapes = {
            str(name): tuple(int(size) for size in tensor["shape"])
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (TypeError, ValueError, KeyError, OverflowError):
        return {}, f"{path} is corrupted: its safetensors header cannot be read."
    return shapes, None


def shapes_problem(
    path: Path, found: Shapes, wanted: Mapping[str, tuple[int, ...]], optional: tuple[str, ...] = ()
) -> str | None:
    """A sentence where tensors are missing, unknown or of another shape than `wanted`, or None."""
    missing = [name for name in wanted if name not in found]
    if missing:
        held = ", ".join(sorted(found)[:8]) or "nothing"
        return (
            f"{path} lacks the tensors {', '.join(missing)} (it holds {shorten_names(held)}); save"
            " the SAE again."
        )
    unknown = sorted(set(found) - set(wanted) - set(optional))
    if unknown:
        return (
            f"{path} holds tensors that an SAE of this kind does not have"
            f" ({shorten_names(', '.join(unknown[:8]))}); save the SAE again without them."
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            return (
                f"{path} holds {name} as {list(found[name])} and its config says {list(shape)};"
                " copy config and weights of one SAE."
            )
    return None


def shorten_names(names: str) -> str:
    """A list of names from a file, short enough for a sentence."""
    return names if len(names) <= 200 else f"{names[:197]}..."
