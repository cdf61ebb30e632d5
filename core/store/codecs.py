"""How values become bytes: `BYTES`, `JSON`, `ARRAYS` (npz), `FRAME` (Parquet); none is pickle."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from core.syntax_trees import parse_alone

if TYPE_CHECKING:  # imported where used: a process that stores only bytes loads neither
    import numpy as np
    import pandas as pd

T = TypeVar("T")
_ARRAY_KINDS = "biufcSUMm"


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Turns values of one type into bytes and back; both ways raise `ValueError`."""

    name: str
    """Part of the entry's name: the same key holds one value for each codec."""
    encode: Callable[[T], bytes]
    """Bytes of a value; `ValueError` names what cannot be stored."""
    decode: Callable[[bytes], T]
    """Value of bytes; `ValueError` when they are not this codec's."""


def strict_json(value: Any, *, what: str = "value", sort_keys: bool = False) -> str:
    """`value` as JSON without spaces, in ASCII.

    Raises `ValueError`, naming the place, for anything that JSON would lose or refuse: NaN,
    infinities, half a surrogate pair, keys that are not text, NumPy scalars, sets, objects.
    """
    _require_json(value, what)
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), allow_nan=False)


def _require_json(value: Any, place: str) -> None:
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{place} is {value!r:.80}, which is not valid Unicode.") from error
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON cannot hold; use None instead.")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place} has the key {key!r}; JSON keys must be text.")
            _require_json(key, f"the key {key!r} of {place}")
            _require_json(item, f"{place}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _require_json(item, f"{place}[{index}]")
    else:
        raise ValueError(
            f"{place} is a {type(value).__name__} ({value!r:.80}), not JSON;"
            " use text, int, float, bool, None, lists and dicts of them."
        )


def _encode_bytes(value: bytes) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise ValueError(f"The value is a {type(value).__name__}; the BYTES codec stores bytes.")
    return bytes(value)


def _encode_json(value: Any) -> bytes:
    return strict_json(value).encode("ascii")


def _decode_json(data: bytes) -> Any:
    return json.loads(data)


def _encode_arrays(arrays: "Mapping[str, np.ndarray]") -> bytes:
    import numpy as np

    # Not np.savez: an array named "file" would clash with its own parameter.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if not isinstance(name, str) or not name or not name.isprintable():
                raise ValueError(f"The array name {name!r} cannot be stored; use printable text.")
            if not isinstance(array, np.ndarray):
                raise ValueError(
                    f"The array {name!r} is a {type(array).__name__}; convert it with np.asarray."
                )
            if array.dtype.kind not in _ARRAY_KINDS or array.dtype.isbuiltin == 2:
                raise ValueError(
                    f"The array {name!r} has dtype {array.dtype}, which npz cannot hold without"
                    " pickle; convert it to a number or text dtype (bfloat16: to float32)."
                )
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _decode_arrays(data: bytes) -> "dict[str, np.ndarray]":
    import numpy as np

    def read(archive: zipfile.ZipFile, member: str) -> "np.ndarray":
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                # The header of an array is a Python literal.
                array = parse_alone(partial(read, archive, member))
                arrays[member.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, EOFError, NotImplementedError, KeyError) as error:
        raise ValueError(f"The bytes are not an npz archive: {error}") from error
    return arrays


def _encode_frame(frame: "pd.DataFrame") -> bytes:
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"The value is a {type(frame).__name__}, not a DataFrame.")
    odd = [column for column in frame.columns if not isinstance(column, str)]
    if odd:
        raise ValueError(f"The column name {odd[0]!r} is not text; rename it before storing.")
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, engine="pyarrow")
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"The table cannot be stored as Parquet: {error}") from error
    return buffer.getvalue()


def _decode_frame(data: bytes) -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"The bytes are not a Parquet table: {error}") from error


BYTES: Codec[bytes] = Codec("bytes", _encode_bytes, bytes)
JSON: Codec[Any] = Codec("json", _encode_json, _decode_json)
ARRAYS: "Codec[dict[str, np.ndarray]]" = Codec("arrays", _encode_arrays, _decode_arrays)
FRAME: "Codec[pd.DataFrame]" = Codec("frame", _encode_frame, _decode_frame)
