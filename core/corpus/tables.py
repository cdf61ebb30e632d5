"""Rows of texts from a Parquet or JSON file of a stranger, within bounds.

A few kilobytes can unpack to more than the memory holds. Files are read a piece at a time, columns
other than those of texts stay unread, and a row, a text or a file that unpacks beyond measure is
refused in a sentence before it is unpacked.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_TEXT = 5_000_000
"""Characters of one text; the longest books have fewer."""
MAX_ROW = 8_000_000
"""Characters of one JSON object, names and other columns included."""
MAX_ROWS = 20_000_000
MAX_COLUMNS = 1000
MAX_COLUMN_BYTES = 1 << 30
"""Bytes of one column of one row group, unpacked."""
_SUSPICIOUS_BYTES = 64 << 20
_MOST_TIMES = 200
"""From `_SUSPICIOUS_BYTES`, how many times its size a file may unpack to; texts reach about 20."""
_BATCH = 64
_PIECE = 1 << 20


def checked_text(text: str, place: str) -> str:
    """`text`, where it is short enough; raises ValueError that names its `place`."""
    if len(text) > MAX_TEXT:
        raise ValueError(_too_long(place))
    return text


def parquet_text_columns(file: Path, most_rows: int) -> list[str]:
    """Columns that hold a text in the first `most_rows` rows; raises as `parquet_texts`."""
    import pyarrow.parquet as pq

    with _arrow_errors(file), pq.ParquetFile(file) as table:
        names = _text_columns(table, file)
        _check_rows(table, file)
    found: set[str] = set()
    with _arrow_errors(file), pq.ParquetFile(file, read_dictionary=names) as table:
        _check_sizes(table, file, names)
        left = most_rows
        for batch in table.iter_batches(batch_size=_BATCH, columns=names, use_threads=False):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if column.null_count < len(column):
                    found.add(name)
            left -= len(batch)
            if left <= 0 or len(found) == len(names):
                break
    return [name for name in names if name in found]


def parquet_texts(file: Path, column: str) -> Iterator[tuple[int, str | None]]:
    """`(row from 1, text)` of one text column.

    Raises:
        ValueError: a damaged file, or one that unpacks to more than is read.
    """
    import pyarrow.parquet as pq

    most = max(_SUSPICIOUS_BYTES * 4, _MOST_TIMES * file.stat().st_size)
    number = decoded = 0
    # One copy of each text, and numbers, until they are measured.
    with _arrow_errors(file), pq.ParquetFile(file, read_dictionary=[column]) as table:
        _check_rows(table, file)
        _check_sizes(table, file, [column])
        for batch in table.iter_batches(batch_size=_BATCH, columns=[column], use_threads=False):
            values = batch.column(0)
            if values.null_count == len(values):
                number += len(values)
                continue
            longest, size = _measured(values)
            decoded += size
            if longest > 4 * MAX_TEXT:  # UTF-8 has at most four bytes a character
                raise ValueError(_too_long(f"A text in rows {number + 1} to {number + len(batch)}"))
            if decoded > most:
                raise ValueError(
                    f"{file.name} unpacks to more than {most >> 20} MiB of text, over"
                    f" {_MOST_TIMES} times its size; leave out what is repeated in it."
                )
            for value in values:
                number += 1
                text = value.as_py()
                yield number, text if text is None else checked_text(text, f"Row {number}")


def json_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file that holds one list of them, one at a time.

    Raises:
        ValueError: it holds something else, or an object that is too large.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rest, number = stream.read(_PIECE).lstrip(), 0
        if not rest.startswith("["):
            raise ValueError(f"{file.name} is not a list of objects; use JSON lines (.jsonl).")
        rest = rest[1:]
        while True:
            rest = _from_next(stream, rest, " \t\r\n")
            if number and rest.startswith(","):
                rest = _from_next(stream, rest[1:], " \t\r\n")
            elif rest.startswith("]"):
                if _from_next(stream, rest[1:], " \t\r\n"):
                    raise ValueError(_no_json(file, "something stands behind the list"))
                return
            elif number:
                raise ValueError(_no_json(file, f"there is no comma behind entry {number}"))
            if not rest:
                raise ValueError(_no_json(file, "it ends before the list does"))
            if not rest.startswith("{"):
                is_list = rest.startswith("[[")
                reason = "it is nested too deeply" if is_list else "an entry is no object"
                raise ValueError(_no_json(file, f"{reason}: {rest[:20]!r}"))
            row, rest = _object(stream, rest, file)
            number += 1
            check_count(number, file)
            yield row


def check_count(rows: int, file: Path) -> None:
    """Raises ValueError for more rows than are read."""
    if rows > MAX_ROWS:
        raise ValueError(f"{file.name} has more than {MAX_ROWS:,} rows; keep fewer.")


def _from_next(stream: Any, rest: str, skipped: str) -> str:
    rest = rest.lstrip(skipped)
    while not rest:
        piece = stream.read(_PIECE)
        if not piece:
            return ""
        rest = piece.lstrip(skipped)
    return rest


def _object(stream: Any, rest: str, file: Path) -> tuple[dict[str, Any], str]:
    """The object that `rest` begins with, and what comes behind it."""
    wanted = _PIECE
    while True:
        try:
            row, end = json.JSONDecoder().raw_decode(rest)
            return row, rest[end:]
        except RecursionError as error:
            raise ValueError(_no_json(file, "it is nested too deeply")) from error
        except ValueError as error:
            if not isinstance(error, json.JSONDecodeError):  # a number of thousands of digits
                raise ValueError(_no_json(file, str(error))) from error
            if len(rest) > MAX_ROW:
                raise ValueError(
                    f"{file.name} has an entry that is broken ({error.msg}) or longer than"
                    f" {MAX_ROW:,} characters; correct it, or cut it into several."
                ) from error
            piece = stream.read(wanted)
            if not piece:
                raise ValueError(_no_json(file, error.msg)) from error
            rest, wanted = rest + piece, wanted * 2  # each is parsed a few times, not many


def _no_json(file: Path, reason: str) -> str:
    return f"{file.name} is not JSON: {reason}. JSON lines end in .jsonl."


def _too_long(place: str) -> str:
    return (
        f"{place} is longer than {MAX_TEXT:,} characters, the most that one text may have; cut it"
        " into several rows."
    )


def _text_columns(table: "pq.ParquetFile", file: Path) -> list[str]:
    import pyarrow as pa

    schema = table.schema_arrow
    if len(schema) > MAX_COLUMNS:
        raise ValueError(
            f"{file.name} has {len(schema):,} columns; at most {MAX_COLUMNS:,} are looked at, so"
            " keep the one with the text."
        )
    return [field.name for field in schema if _is_text(pa, field.type)]


def _is_text(pa: Any, kind: "pa.DataType") -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_rows(table: "pq.ParquetFile", file: Path) -> None:
    check_count(table.metadata.num_rows, file)


def _check_sizes(table: "pq.ParquetFile", file: Path, names: list[str]) -> None:
    """What the file says of itself, before anything is unpacked."""
    size = file.stat().st_size
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            unpacked = chunk.total_uncompressed_size
            swollen = unpacked > _SUSPICIOUS_BYTES and unpacked > _MOST_TIMES * size
            if chunk.path_in_schema in names and (swollen or unpacked > MAX_COLUMN_BYTES):
                raise ValueError(
                    f"The column {chunk.path_in_schema!r} of {file.name} unpacks to"
                    f" {unpacked >> 20:,} MiB in one piece, more than is read; write the file in"
                    " smaller row groups, without repetitions."
                )


def _measured(values: "pa.Array") -> tuple[int, int]:
    """Bytes of the longest text, and of all once each row has its own copy."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.DictionaryArray):
        lengths = pc.binary_length(values.dictionary).take(values.indices)
    else:
        lengths = pc.binary_length(values)
    return int(pc.max(lengths).as_py() or 0), int(pc.sum(lengths).as_py() or 0)


class _arrow_errors:
    """A `with` block whose errors of Arrow become one sentence about the file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError):
            first = (str(error).splitlines() or ["no details"])[0][:200]
            raise ValueError(f"{self._file.name} cannot be read as Parquet: {first}") from error
