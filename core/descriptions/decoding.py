"""Bytes of description files made readable: gzip, encodings and Parquet, within bounds.

A few kilobytes can unpack to more than the memory holds; packed files are therefore opened piece
by piece and given up at a bound.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_GZIP = b"\x1f\x8b"
MAX_PARQUET_BYTES = 256 << 20
"""Most bytes of text that are taken from one Parquet file, whose columns are packed."""
MAX_ROWS = 10_000_000
"""Most rows of one Parquet file."""
_BATCH = 1024


def decompress(data: bytes, label: str, limit: int) -> bytes:
    """`data`, gunzipped where it is gzip by its first bytes, whatever its name says.

    Raises:
        ValueError: it is cut short, or unpacks to more than `limit` bytes.
    """
    if data[:2] != _GZIP:
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            plain = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{label} is not a whole gzip file; pack or copy it again.") from error
    if len(plain) > limit:
        raise ValueError(
            f"{label} unpacks to more than {limit >> 20} MiB, the most that is read; leave out"
            " columns other than index and description."
        )
    return plain


def decode_text(data: bytes, label: str) -> str:
    """`data` as text: UTF-8, with or without a mark in front, or UTF-16 with one.

    Raises:
        ValueError: it is neither; with the line.
    """
    # Spreadsheets save "Unicode text" as UTF-16, which begins with one of these marks.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{label} is not {encoding.removesuffix('-sig').upper()} text (line {line}, byte"
            f" 0x{data[error.start]:02x}); save it as UTF-8."
        ) from error


def parquet_rows(
    data: bytes,
    label: str,
    known: set[str],
    require: Callable[[Any, str, list[str]], None],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(place, fields)` of each row of a Parquet file, columns outside `known` left unread.

    Args:
        data: the file's contents.
        label: its name, for places.
        known: names of columns in lower case.
        require: raises ValueError unless the columns suffice; called with names, place, names.

    Raises:
        ValueError: it is damaged, or unpacks to more than is read.
    """
    try:
        yield from _rows(data, label, known, require)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{label} is not a whole Parquet file; write it again.") from error


def _rows(
    data: bytes,
    label: str,
    known: set[str],
    require: Callable[[Any, str, list[str]], None],
) -> Iterator[tuple[str, dict[str, Any]]]:
    # Texts stay what they are packed as, one copy of each and numbers, until they are measured.
    plain = pq.ParquetFile(io.BytesIO(data))
    schema = plain.schema_arrow
    names = [name.strip().lower() for name in schema.names]
    require(names, label, names)
    columns = [
        name for name, plain_name in zip(schema.names, names, strict=True) if plain_name in known
    ]
    texts = [name for name in columns if pa.types.is_string(schema.field(name).type)]
    if plain.metadata.num_rows > MAX_ROWS:
        raise ValueError(
            f"{label} has {plain.metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read, so keep"
            " one for each latent."
        )
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
    number = size = 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
        size += sum(_bytes_of(column) for column in batch.columns)
        if size > MAX_PARQUET_BYTES:
            raise ValueError(
                f"{label} unpacks to more than {MAX_PARQUET_BYTES >> 20} MiB, the most that is"
                " read; shorten the descriptions or keep one for each latent."
            )
        for fields in batch.to_pylist():
            number += 1
            row = {str(name).strip().lower(): value for name, value in fields.items()}
            yield f"{label}, row {number}", row


def _bytes_of(column: pa.Array) -> int:
    """Bytes of a column once each row has its own copy of its text."""
    if not isinstance(column, pa.DictionaryArray):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return int(pc.sum(lengths).as_py() or 0)
