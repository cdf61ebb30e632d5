"""A corpus from a file: plain text, JSON lines or Parquet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.corpus.documents import Corpus, Document, digest_of

_TABLES = {".jsonl", ".ndjson", ".parquet", ".json"}
_PREFERRED = ("text", "content", "document", "body")
_MAX_TEXT_DOCUMENT = 200_000


def text_file(path: str | Path, *, column: str | None = None) -> Corpus:
    """The file's texts: of `column` for .jsonl, .json (a list of objects) and .parquet.

    Any other file is plain UTF-8 text; blank lines part it into documents of at least 2,000
    characters. Without `column`, a table's column called text, content, document or body is
    taken, else its only text column. The file is read a piece at a time.

    Raises:
        ValueError: no such file, a column that is not there or holds no text, a line that is not
            JSON, bytes that are not UTF-8, a damaged Parquet file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"There is no file {file}; give the path of a text, JSONL or Parquet file."
        )
    if file.suffix.lower() in _TABLES:
        column = _choose(file, column)
    elif column is not None:
        raise ValueError(
            f"{file.name} is plain text, which has no column {column!r}; leave it out."
        )
    stat = file.stat()
    digest = digest_of("file", str(file.resolve()), stat.st_size, stat.st_mtime_ns, column)
    name = file.name if column is None else f"{file.name}, column {column}"
    return Corpus(name, digest, lambda: _documents(file, column))


def file_columns(path: str | Path) -> list[str]:
    """Columns of a table that hold text in its first rows; raises ValueError as `text_file`."""
    file = Path(path).expanduser()
    first: dict[str, Any] = {}
    for number, row in enumerate(_rows(file, None)):
        first.update({name: value for name, value in row.items() if isinstance(value, str)})
        if number >= 20:
            break
    return list(first)


def _choose(file: Path, column: str | None) -> str:
    columns = file_columns(file)
    if column is not None:
        if column not in columns:
            raise ValueError(
                f"{file.name} has no text column {column!r}; "
                f"columns with text: {', '.join(columns) or 'none'}."
            )
        return column
    for name in (*_PREFERRED, *(columns if len(columns) == 1 else ())):
        if name in columns:
            return name
    if not columns:
        raise ValueError(f"{file.name} has no column with text; choose another file.")
    raise ValueError(f"{file.name} has several text columns: choose one of {', '.join(columns)}.")


def _documents(file: Path, column: str | None) -> Iterator[Document]:
    if column is None:
        yield from _paragraphs(file)
        return
    for number, row in enumerate(_rows(file, column), start=1):
        text = row.get(column)
        if isinstance(text, str) and text:
            yield Document(f"{file.name}: {number}", text)


def _rows(file: Path, column: str | None) -> Iterator[dict[str, Any]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_rows(file, column)
    elif suffix == ".json":
        yield from _json_rows(file)
    else:
        yield from _jsonl_rows(file)


def _parquet_rows(file: Path, column: str | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = None if column is None else [column]
            for batch in table.iter_batches(batch_size=256, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file.name} cannot be read as Parquet: {error}") from error


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        rows = json.loads(_lines_joined(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file.name} is not JSON: {error}. JSON lines end in .jsonl.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} is not a list of objects; use JSON lines (.jsonl).")
    yield from rows


def _jsonl_rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"Line {number} of {file.name} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise ValueError(
                f"Line {number} of {file.name} is a {type(row).__name__}; each line must be an "
                'object such as {"text": "..."}.'
            )
        yield row


def _paragraphs(file: Path) -> Iterator[Document]:
    """The text cut at blank lines into documents of 2,000 characters or more."""
    lines: list[str] = []
    size = number = 0
    for line in _lines(file):
        lines.append(line)
        size += len(line)
        if (size >= 2000 and not line.strip()) or size >= _MAX_TEXT_DOCUMENT:
            number += 1
            yield Document(f"{file.name}: {number}", "".join(lines))
            lines, size = [], 0
    if size:
        yield Document(f"{file.name}: {number + 1}", "".join(lines))


def _lines_joined(file: Path) -> str:
    return "".join(_lines(file))


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            # A bounded readline: a file without a single line break is still read in pieces.
            whole = file.suffix.lower() in _TABLES
            while line := text.readline(-1 if whole else _MAX_TEXT_DOCUMENT):
                yield line
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} is not UTF-8 text (byte {error.start} of a piece); save it as UTF-8."
        ) from error
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror or error}.") from error
