"""Descriptions from a user's file (CSV, TSV, JSON, JSON Lines, Parquet), and into one."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from core.bounded_json import parse_bounded
from core.csv_text import LINE_END, harmless_table, plain
from core.descriptions.decoding import decode_text, decompress, parquet_rows
from core.descriptions.table import YOURS, Descriptions

INDEX_COLUMNS = (
    *("latent", "latent_idx", "latent_id", "latent_index"),
    *("feature", "feature_id", "feature_idx", "feature_index", "index"),
)
"""Columns with the latent's number, first come first: tables number their rows by `index` too."""
TEXT_COLUMNS = ("description", "explanation", "label")
SCORE_COLUMNS = ("score",)
MAX_FILE_BYTES = 64 << 20

EXPORT_FORMATS = ("csv", "jsonl", "parquet")


@dataclass(frozen=True)
class DescriptionsFile:
    """What a file held."""

    descriptions: Descriptions
    """Marked as the user's."""
    rows: int
    """Rows read."""
    repeated: int
    """Rows whose latent came before; the last one with a text counts."""
    blank: int
    """Rows without a text."""


@dataclass(frozen=True)
class _Row:
    place: str
    fields: Mapping[str, Any]


def read_descriptions_file(
    file: Path | str | bytes, name: str | None = None, *, d_sae: int, source: str = YOURS
) -> DescriptionsFile:
    """Descriptions of an SAE's latents from a file.

    One row, object or line a latent, with a column `latent` (or another of `INDEX_COLUMNS`) and a
    column `description` (or `explanation`, `label`); `score` is optional, others are ignored. A
    JSON file may also be one object from index to text. Any of them may be gzipped.

    Args:
        file: its path, or its contents.
        name: file name, whose ending tells the format; needed with contents.
        d_sae: latents of the SAE that the file is about.
        source: mark of the descriptions.

    Raises:
        ValueError: one sentence that names the line and column, and the remedy.
    """
    path = None if isinstance(file, bytes) else Path(file)
    label = name or (path.name if path is not None else "The file")
    try:
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{label} cannot be read ({error.strerror}); check the path.") from error
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(
            f"{label} has {len(data) >> 20} MiB; at most {MAX_FILE_BYTES >> 20} MiB are read, so"
            " leave out columns other than index and description."
        )
    rows = list(_rows(decompress(data, label, MAX_FILE_BYTES), label))
    if not rows:
        raise ValueError(f"{label} has no rows; it needs one for each described latent.")
    return _collect(rows, label, d_sae, source)


def export_descriptions(descriptions: Descriptions, file_format: str) -> bytes:
    """A file of `EXPORT_FORMATS` with `index`, `description`, `source`, `score`, one row for each
    described latent; `read_descriptions_file` reads it again.

    Raises:
        ValueError: no such format.
    """
    frame = descriptions.to_frame()
    if file_format == "csv":
        text = harmless_table(frame).to_csv(index=False, lineterminator=LINE_END)
        return text.encode("utf-8", "replace")
    if file_format == "jsonl":
        text = frame.to_json(orient="records", lines=True, force_ascii=False)
        return text.encode("utf-8", "replace")
    if file_format == "parquet":
        return frame.to_parquet(index=False)
    raise ValueError(f"There is no format {file_format!r}; choose {', '.join(EXPORT_FORMATS)}.")


def _rows(data: bytes, label: str) -> Iterator[_Row]:
    ending = PurePath(label.lower().removesuffix(".gz").removesuffix(".gzip")).suffix
    if ending == ".parquet" or data[:4] == b"PAR1":
        for place, fields in parquet_rows(data, label, _KNOWN, _require_columns):
            yield _Row(place, fields)
        return
    if data[:4] == b"PK\x03\x04":
        raise ValueError(
            f"{label} is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV."
        )
    text = decode_text(data, label)
    if ending in (".jsonl", ".ndjson"):
        yield from _json_lines(text, label)
    elif ending == ".json":
        yield from _json_rows(text, label)
    elif ending in (".csv", ".tsv", ".tab", ".txt"):
        yield from _table_rows(text, label, tabs=ending in (".tsv", ".tab"))
    else:
        raise ValueError(
            f"{label} does not end in .csv, .tsv, .json, .jsonl or .parquet (.gz may follow);"
            " rename it to what it is."
        )


def _table_rows(text: str, label: str, *, tabs: bool) -> Iterator[_Row]:
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    # Spreadsheets of many countries separate by semicolons, and text may come pasted with tabs.
    delimiter = "\t" if tabs else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if re.fullmatch(r"sep=[,;\t]", header):  # spreadsheets may say so in a line of its own
            next(reader)
        names = [cell.strip().lower() for cell in next(reader, [])]
        _require_columns(names, f"{label}, line 1", names)
        start = reader.line_num + 1
        for cells in reader:
            place, start = f"{label}, line {start}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(names):
                raise ValueError(
                    f"{place} has {len(cells)} columns and the first line {len(names)}; put texts"
                    f" that contain {delimiter!r} in double quotes."
                )
            yield _Row(place, dict(zip(names, map(plain, cells), strict=False)))
    except csv.Error as error:
        raise ValueError(
            f"{label}, line {max(1, reader.line_num)} is not valid CSV ({error}); check the"
            " quotation marks there."
        ) from error


def _json_lines(text: str, label: str) -> Iterator[_Row]:
    # Not splitlines: JSON texts may contain the other marks that it takes for ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{label}, line {number}"
            yield _object_row(_parsed(line, place), place)


def _json_rows(text: str, label: str) -> Iterator[_Row]:
    content = _parsed(text, label)
    if isinstance(content, dict) and isinstance(content.get("explanations"), list):
        content = content["explanations"]
    if isinstance(content, list):
        for number, entry in enumerate(content, start=1):
            place = f"{label}, entry {number}"
            yield _object_row(entry, place)
    elif isinstance(content, dict):
        for index, value in content.items():
            fields = value if isinstance(value, dict) else {"description": value}
            others = {name: cell for name, cell in fields.items() if str(name) not in INDEX_COLUMNS}
            yield _object_row({"index": index, **others}, f"{label}, entry {index!r:.40}")
    else:
        raise ValueError(f"{label} holds {content!r:.40}; a list of objects is needed.")


def _object_row(entry: Any, place: str) -> _Row:
    if not isinstance(entry, dict):
        raise ValueError(
            f"{place} is {entry!r:.40}; write an object such as"
            ' {"index": 7, "description": "dates"}.'
        )
    fields = {str(name).strip().lower(): value for name, value in entry.items()}
    _require_columns(fields, place, list(fields))
    return _Row(place, fields)


def _parsed(text: str, place: str) -> Any:
    try:
        return parse_bounded(text)
    except json.JSONDecodeError as error:
        where = (
            f"{place}, column {error.colno}"
            if "line" in place
            else (f"{place}, line {error.lineno}, column {error.colno}")
        )
        raise ValueError(f"{where} is not valid JSON ({error.msg}); correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON that can be read ({error}); correct it.") from error


_KNOWN = {*INDEX_COLUMNS, *TEXT_COLUMNS, *SCORE_COLUMNS}


_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")
"""A whole number as tables write it; Python would also take "1_000"."""


def _require_columns(names: Any, place: str, present: list[str]) -> None:
    for name in _KNOWN:
        if present.count(name) > 1:
            raise ValueError(
                f"{place} has {present.count(name)} columns {name!r}; keep the one that counts."
            )
    for choices in (("index", *INDEX_COLUMNS[:-1]), TEXT_COLUMNS):
        if not any(choice in names for choice in choices):
            found = ", ".join(repr(name) for name in present[:6]) or "nothing"
            raise ValueError(
                f"{place} has no column {choices[0]!r} (or {', '.join(map(repr, choices[1:]))});"
                f" it has {found}."
            )


def _collect(rows: list[_Row], label: str, d_sae: int, source: str) -> DescriptionsFile:
    texts = np.full(d_sae, "", dtype=object)
    scores = np.full(d_sae, np.nan, dtype=np.float32)
    seen: set[int] = set()
    outside: list[tuple[_Row, int]] = []
    repeated = blank = 0
    for row in rows:
        index = _index(row)
        if not 0 <= index < d_sae:
            outside.append((row, index))
            continue
        text, score = _text(row), _score(row)
        repeated += index in seen
        seen.add(index)
        blank += not text
        if text:  # an empty row says nothing, and takes nothing back
            texts[index], scores[index] = text, score
    if outside:
        row, index = outside[0]
        raise ValueError(
            f"{len(outside):,} of {len(rows):,} rows of {label} are about latents outside 0 to"
            f" {d_sae - 1} (the first is {index}, {row.place.removeprefix(label).lstrip(', ')});"
            " choose the SAE that the file was made for."
        )
    descriptions = Descriptions.from_texts(list(texts), source=source, scores=scores)
    return DescriptionsFile(descriptions, rows=len(rows), repeated=repeated, blank=blank)


def _field(row: _Row, names: tuple[str, ...]) -> tuple[str, Any]:
    name = next((name for name in names if name in row.fields), names[0])
    return name, row.fields.get(name)


def _index(row: _Row) -> int:
    name, value = _field(row, INDEX_COLUMNS)
    plain = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else True
    try:
        number = float(value) if plain and not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not number.is_integer():
        raise ValueError(
            f"{row.place}, column {name!r} is {value!r:.40}; it must be the latent's number, a"
            " whole number from 0."
        )
    return int(number)


def _text(row: _Row) -> str:
    name, value = _field(row, TEXT_COLUMNS)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{row.place}, column {name!r} is {value!r:.40}; it must be a text.")
    return " ".join(value.replace("\0", " ").encode("utf-8", "replace").decode().split())


def _score(row: _Row) -> float:
    name, value = _field(row, SCORE_COLUMNS)
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value) if not isinstance(value, bool) else math.inf
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isinf(number):
        raise ValueError(
            f"{row.place}, column {name!r} is {value!r:.40}; it must be a number or empty."
        )
    return number
