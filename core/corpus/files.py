"""A corpus from a file: plain text, JSON lines or Parquet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.corpus.documents import Corpus, Document, digest_of
from core.corpus.tables import (
    MAX_ROW,
    check_count,
    checked_text,
    json_rows,
    parquet_text_columns,
    parquet_texts,
)

_TABLES = {".jsonl", ".ndjson", ".parquet", ".json"}
_PREFERRED = ("text", "content", "document", "body")
_MAX_TEXT_DOCUMENT = 200_000
_ROWS_LOOKED_AT = 20
_MOST_ROWS_LOOKED_AT = 10_000
_SHOWN_COLUMNS = 20


def text_file(path: str | Path, *, column: str | None = None) -> Corpus:
    """The file's texts: of `column` for .jsonl, .json (a list of objects) and .parquet.

    Rows that lack the column, or hold null in it, have no text and are left out.
    Any other file is plain UTF-8 text; blank lines part it into documents of at least 2,000
    characters. Without `column`, a table's column called text, content, document or body is
    taken, else its only text column. The file is read a piece at a time, within the bounds of
    `core.corpus.tables`.

    Raises:
        ValueError: no such file, a column that is not there or holds no text, a line that is not
            JSON, bytes that are not UTF-8, a damaged Parquet file, more than is read.
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
    """Columns of a table that hold text in its first rows that hold any; raises as `text_file`."""
    file = Path(path).expanduser()
    if file.suffix.lower() == ".parquet":
        return parquet_text_columns(file, _MOST_ROWS_LOOKED_AT)
    first: dict[str, Any] = {}
    for number, row in enumerate(_rows(file)):
        first.update({name: value for name, value in row.items() if isinstance(value, str)})
        if (number >= _ROWS_LOOKED_AT and first) or number >= _MOST_ROWS_LOOKED_AT:
            break
    return list(first)


def _choose(file: Path, column: str | None) -> str:
    columns = file_columns(file)
    if column is not None:
        if column not in columns:
            raise ValueError(
                f"{file.name} has no text column {column!r}; "
                f"columns with text: {_listed(columns) or 'none'}."
            )
        return column
    for name in (*_PREFERRED, *(columns if len(columns) == 1 else ())):
        if name in columns:
            return name
    if not columns:
        raise ValueError(f"{file.name} has no column with text; choose another file.")
    raise ValueError(f"{file.name} has several text columns: choose one of {_listed(columns)}.")


def _listed(columns: list[str]) -> str:
    more = ", …" if len(columns) > _SHOWN_COLUMNS else ""
    return ", ".join(name[:80] for name in columns[:_SHOWN_COLUMNS]) + more


def _documents(file: Path, column: str | None) -> Iterator[Document]:
    if column is None:
        yield from _paragraphs(file)
        return
    if file.suffix.lower() == ".parquet":
        for number, text in parquet_texts(file, column):
            if text:
                yield Document(f"{file.name}: {number}", text)
        return
    for number, row in enumerate(_rows(file), start=1):
        text = row.get(column)
        if text is not None and not isinstance(text, str):
            raise ValueError(
                f"Row {number} of {file.name} holds a {type(text).__name__} in {column!r} instead "
                "of text; choose another column, or write it as text."
            )
        if text:
            yield Document(f"{file.name}: {number}", checked_text(text, f"Row {number}"))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix.lower() != ".json":
        yield from _jsonl_rows(file)
        return
    with _readable(file):
        yield from json_rows(file)


def _jsonl_rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        check_count(number, file)
        if len(line) > MAX_ROW:
            raise ValueError(
                f"Line {number} of {file.name} is longer than {MAX_ROW:,} characters; cut its text "
                "into several rows."
            )
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
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


def _lines(file: Path) -> Iterator[str]:
    # A bounded readline: a file without a single line break is still read in pieces.
    most = MAX_ROW + 1 if file.suffix.lower() in _TABLES else _MAX_TEXT_DOCUMENT
    with _readable(file), file.open(encoding="utf-8-sig", newline="") as text:
        while line := text.readline(most):
            yield line


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} is not UTF-8 text (byte {error.start} of a piece); save it as UTF-8."
        ) from error
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror or error}.") from error
