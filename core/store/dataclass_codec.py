"""Frozen dataclasses as entries of the store: numbers, texts, arrays, tensors and tables alike.

    RESULT = dataclass_codec(GradientResult)
    store.put(key, result, RESULT)

An entry is a zip without compression: `value.json` says how the value is built, and every array
(npy) and table (Parquet) lies beside it. Nothing in it names a class: which dataclass stands where
is known from the annotations of the one that is read, so a foreign entry can only be a miss.
"""

import dataclasses
import io
import json
import math
import types
import typing
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from core.lazy import imported
from core.store.codecs import ARRAYS, FRAME, Codec, strict_json

T = TypeVar("T")
_VALUE = "value.json"


def dataclass_codec(cls: type[T]) -> Codec[T]:
    """A codec for one frozen dataclass and whatever dataclasses its fields are annotated with.

    Fields may hold None, bool, int, float (NaN and infinities too), str, tuples, lists, mappings
    (keys of any of these plain kinds), NumPy arrays (of texts too), SciPy's csr_array, torch
    tensors (which come back on the CPU), pandas tables and further dataclasses, nested as they
    like. Encoding raises ValueError, naming the field, for anything else; decoding raises it for
    bytes that are not such a value.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{cls!r} is no dataclass; give the class of what is stored.")

    def encode(value: T) -> bytes:
        if type(value) is not cls:
            raise ValueError(f"The value is a {type(value).__name__}, not a {cls.__name__}.")
        writer = _Writer()
        plain = writer.plain(value, cls.__name__)
        return writer.finish(plain)

    def decode(data: bytes) -> T:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            return _Reader(members).value(json.loads(members[_VALUE]), cls)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, KeyError) as error:
            raise ValueError(f"The bytes hold no {cls.__name__}: {error}.") from error
        except (TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError(f"The bytes do not make up a {cls.__name__}: {error}.") from error

    return Codec("dataclass", encode, decode)


class _Writer:
    """Collects arrays and tables while it turns a value into JSON."""

    def __init__(self) -> None:
        self._members: dict[str, bytes] = {}

    def plain(self, value: Any, place: str) -> Any:
        """The value as JSON; `place` is how an error calls it."""
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, (list, tuple)):
            items = [self.plain(item, f"{place}[{n}]") for n, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, Mapping):
            pairs = [
                [self.plain(name, f"a key of {place}"), self.plain(item, f"{place}[{name!r}]")]
                for name, item in value.items()
            ]
            return {"mapping": pairs}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {
                field.name: self.plain(getattr(value, field.name), f"{place}.{field.name}")
                for field in dataclasses.fields(value)
                if field.init
            }
            return {"fields": fields}
        return self._large(value, place)

    def finish(self, plain: Any) -> bytes:
        """All of it as one zip."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_VALUE, strict_json(plain))
            for name, data in self._members.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    def _large(self, value: Any, place: str) -> Any:
        import numpy as np

        # Neither is imported for a value that cannot be one of theirs.
        torch, pandas = imported("torch"), imported("pandas")
        if pandas is not None and isinstance(value, pandas.DataFrame):
            return self._member("table", FRAME.encode(value))
        if torch is not None and isinstance(value, torch.Tensor):
            return self._member("tensor", ARRAYS.encode({"it": value.detach().cpu().numpy()}))
        if isinstance(value, np.generic):
            return self.plain(value.item(), place)
        if isinstance(value, np.ndarray) and value.dtype == object:
            # An array of texts; whatever else it holds is refused below, item by item.
            items = [self.plain(item, f"{place}[{n}]") for n, item in enumerate(value.ravel())]
            return {"objects": [list(value.shape), items]}
        if isinstance(value, np.ndarray):
            return self._member("array", ARRAYS.encode({"it": value}))
        sparse = imported("scipy.sparse")
        if sparse is not None and isinstance(value, sparse.csr_array):
            parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
            parts["shape"] = np.array(value.shape)
            return self._member("sparse", ARRAYS.encode(parts))
        raise ValueError(
            f"{place} is a {type(value).__name__}, which cannot be stored; use numbers, texts, "
            "arrays, tables and dataclasses of them."
        )

    def _member(self, kind: str, data: bytes) -> dict[str, str]:
        name = str(len(self._members))
        self._members[name] = data
        return {kind: name}


class _Reader:
    """Builds a value from JSON, the members beside it, and annotations."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members = members

    def value(self, plain: Any, hint: Any) -> Any:
        """What `plain` stands for, where a value annotated with `hint` is expected."""
        if not isinstance(plain, dict):
            return plain
        [(kind, inside)] = plain.items()
        if kind == "float":
            return float(inside)
        if kind in ("tuple", "list"):
            items = [
                self.value(item, _hint_of_item(hint, number)) for number, item in enumerate(inside)
            ]
            return tuple(items) if kind == "tuple" else items
        if kind == "mapping":
            of_key, of_value = _hints_of_mapping(hint)
            return {self.value(key, of_key): self.value(item, of_value) for key, item in inside}
        if kind == "fields":
            return self._dataclass(inside, hint)
        if kind == "table":
            return FRAME.decode(self._members[inside])
        if kind == "objects":
            return self._objects(*inside)
        if kind == "sparse":
            return _sparse(ARRAYS.decode(self._members[inside]))
        array = ARRAYS.decode(self._members[inside])["it"]
        if kind == "array":
            return array
        if kind == "tensor":
            import torch

            return torch.from_numpy(array)
        raise ValueError(f"A stored value is of the unknown kind {kind!r}.")

    def _objects(self, shape: list[int], items: list[Any]) -> Any:
        import numpy as np

        array = np.empty(len(items), dtype=object)
        array[:] = [self.value(item, Any) for item in items]
        return array.reshape(shape)

    def _dataclass(self, fields: Mapping[str, Any], hint: Any) -> Any:
        # Of several classes in one annotation, the one with these fields.
        for cls in _classes_in(hint):
            if {field.name for field in dataclasses.fields(cls) if field.init} == set(fields):
                hints = typing.get_type_hints(cls)
                return cls(
                    **{name: self.value(stored, hints[name]) for name, stored in fields.items()}
                )
        raise ValueError(f"Stored fields {sorted(fields)} fit nothing in {hint}.")


def _sparse(parts: Mapping[str, Any]) -> Any:
    from scipy.sparse import csr_array

    data = (parts["data"], parts["indices"], parts["indptr"])
    matrix = csr_array(data, shape=tuple(parts["shape"].tolist()))
    # From outside: indices beyond the shape would be read from somewhere else.
    matrix.check_format(full_check=True)
    return matrix


def _alternatives(hint: Any) -> list[Any]:
    """The members of `X | Y | None`, or `hint` itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for part in typing.get_args(hint) for one in _alternatives(part)]
    return [hint]


def _classes_in(hint: Any) -> list[type]:
    return [
        cls
        for cls in _alternatives(hint)
        if isinstance(cls, type) and dataclasses.is_dataclass(cls)
    ]


def _hint_of_item(hint: Any, number: int) -> Any:
    for one in _alternatives(hint):
        origin, inside = typing.get_origin(one), typing.get_args(one)
        if origin is tuple and inside:
            return inside[0] if inside[-1] is Ellipsis else inside[min(number, len(inside) - 1)]
        if isinstance(origin, type) and issubclass(origin, Sequence) and inside:
            return inside[0]
    return Any


def _hints_of_mapping(hint: Any) -> tuple[Any, Any]:
    for one in _alternatives(hint):
        origin, inside = typing.get_origin(one), typing.get_args(one)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(inside) == 2:
            return inside[0], inside[1]
    return Any, Any
