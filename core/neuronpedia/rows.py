"""Explanations out of the bytes of one batch, or out of the old API's list.

Rows were written by several generations of software: `index` is text or a number, `embedding` a
list or a JSON text of one, and not everything is well formed. What is not is counted and left out.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.neuronpedia.errors import NeuronpediaError

COLUMNS = ("index", "description", "explanation_model", "type", "embedding")
"""Of the table of one batch: whole number, then text, then the bytes of a float16 vector."""

MAX_EXPANDED_BYTES = 256 << 20
MAX_LINE_BYTES = 8 << 20
_MAX_INDEX = 2**31 - 1
_MAX_DIMENSIONS = 8192


class DamagedFile(NeuronpediaError):
    """A file came whole and is still not what it should be."""


def read_batch(data: bytes, *, name: str) -> pd.DataFrame:
    """Rows of a JSON Lines file, gzipped or not, as a table with `COLUMNS`.

    `attrs["malformed"]` and `attrs["blank"]` count the rows left out: not a row at all, and
    without a description.

    Raises:
        DamagedFile: the compression is broken or the contents are far too large.
    """
    return _table(_lines(data, name))


def rows_of_list(entries: Iterable[Any]) -> pd.DataFrame:
    """The same table from rows that are decoded already."""
    return _table(entries)


def vector(stored: bytes) -> Float[np.ndarray, " d"]:
    """The vector in the column `embedding`."""
    return np.frombuffer(stored, dtype="<f2")


def _lines(data: bytes, name: str) -> Iterator[Any]:
    """Decoded lines; None for one that is not JSON."""
    file: io.BufferedIOBase = io.BytesIO(data)
    if data[:2] == b"\x1f\x8b":
        file = gzip.GzipFile(fileobj=file)
    total = 0
    try:
        while line := file.readline(MAX_LINE_BYTES):
            total += len(line)
            if total > MAX_EXPANDED_BYTES or len(line) == MAX_LINE_BYTES:
                raise DamagedFile(f"{name} expands to more than an export can hold.")
            if line.strip():
                yield _decoded(line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFile(f"{name} is not a whole gzip file ({error}).") from error


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _table(entries: Iterable[Any]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    malformed = blank = 0
    for entry in entries:
        index = _index(entry.get("index")) if isinstance(entry, dict) else None
        description = entry.get("description") if index is not None else None
        if index is None or not (description is None or isinstance(description, str)):
            malformed += 1
            continue
        text = _clean(description)
        if not text:
            blank += 1
            continue
        columns["index"].append(index)
        columns["description"].append(text)
        columns["explanation_model"].append(_clean(entry.get("explanationModelName")))
        columns["type"].append(_clean(entry.get("typeName")))
        columns["embedding"].append(_embedding(entry.get("embedding")))
    frame = pd.DataFrame(
        {
            "index": np.array(columns["index"], dtype=np.int64),
            "description": pd.Series(columns["description"], dtype="str"),
            "explanation_model": pd.Series(columns["explanation_model"], dtype="str"),
            "type": pd.Series(columns["type"], dtype="str"),
            "embedding": pd.Series(columns["embedding"], dtype="object"),
        }
    )
    frame.attrs = {"malformed": malformed, "blank": blank}
    return frame


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 11:
        value = int(value)
    if type(value) is not int or not 0 <= value <= _MAX_INDEX:
        return None
    return value


def _clean(text: Any) -> str:
    """Text on one line, without what Parquet or a page cannot hold (half surrogate pairs)."""
    if not isinstance(text, str):
        return ""
    return " ".join(text.replace("\0", " ").encode("utf-8", "replace").decode().split())


def _embedding(value: Any) -> bytes | None:
    """float16 bytes of a list of numbers, or of a JSON text of one; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_DIMENSIONS:
        return None
    try:
        numbers = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return None
    largest = np.finfo(np.float16).max
    if numbers.ndim != 1 or not (np.abs(numbers) <= largest).all():
        return None
    return numbers.astype("<f2").tobytes()
