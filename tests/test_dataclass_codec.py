"""Dataclasses in the store come back as they were, and nothing else comes back at all."""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec


@dataclass(frozen=True)
class Fit:
    """A small part."""

    share: float
    n: int = 0


@dataclass(frozen=True)
class Other:
    """A part with other fields."""

    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """Every kind of field that results have."""

    values: Float[np.ndarray, "n m"]
    tensor: Float[Tensor, " n"]
    table: pd.DataFrame
    fit: Fit | None
    parts: tuple[Fit, ...]
    by_name: Mapping[str, Fit]
    by_place: dict[tuple[int, int], np.ndarray]
    either: Fit | Other
    pair: tuple[str, Fit]
    texts: np.ndarray
    firings: csr_array
    note: str = "π and \U0001f600"
    limit: float = math.inf


CODEC = dataclass_codec(Result)


def result(**changes: Any) -> Result:
    whole: dict[str, Any] = {
        "values": np.arange(6, dtype=np.float32).reshape(2, 3),
        "tensor": torch.tensor([1.5, float("nan")]),
        "table": pd.DataFrame({"token": [" a", "b"], "value": [0.5, np.nan]}, index=[3, 7]),
        "fit": Fit(float("nan"), 3),
        "parts": (Fit(0.25), Fit(-math.inf, 2)),
        "by_name": {"one": Fit(1.0)},
        "by_place": {(1, 2): np.array([True, False])},
        "either": Other(("x", "y")),
        "pair": ("name", Fit(2.0)),
        "texts": np.array([["a", ""], ["\n", "é"]], dtype=object),
        "firings": csr_array(np.array([[0, 1.5], [2.0, 0]], dtype=np.float32)),
    }
    return Result(**{**whole, **changes})


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    store, key, whole = Store(tmp_path), Key("result", 1, {}), result()
    store.put(key, whole, CODEC)
    found = Store(tmp_path).get(key, CODEC)
    assert found is not None
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.values.dtype == np.float32
    torch.testing.assert_close(found.tensor, whole.tensor, equal_nan=True)
    pd.testing.assert_frame_equal(found.table, whole.table, check_dtype=False)
    assert found.fit is not None
    assert math.isnan(found.fit.share)
    assert found.fit.n == 3
    assert found.parts == whole.parts
    assert found.by_name == {"one": Fit(1.0)}
    assert list(found.by_place) == [(1, 2)]
    assert found.either == Other(("x", "y"))
    assert found.pair == ("name", Fit(2.0))
    assert found.texts.tolist() == [["a", ""], ["\n", "é"]]
    assert found.texts.dtype == object
    np.testing.assert_array_equal(found.firings.toarray(), [[0, 1.5], [2.0, 0]])
    assert (found.note, found.limit) == (whole.note, math.inf)


def test_missing_parts_stay_missing() -> None:
    found = CODEC.decode(CODEC.encode(result(fit=None, parts=(), by_name={})))
    assert found.fit is None
    assert found.parts == ()
    assert found.by_name == {}


@pytest.mark.slow
@given(st.floats(), st.integers(), st.text(st.characters(exclude_categories=["Cs"])))
def test_numbers_and_texts_are_exact(share: float, n: int, word: str) -> None:
    found = CODEC.decode(CODEC.encode(result(parts=(Fit(share, n),), either=Other((word,)))))
    assert found.parts[0].n == n
    assert found.either == Other((word,))
    assert found.parts[0].share == share or math.isnan(share)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), b"bytes"])
def test_what_cannot_be_stored_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"note|it"):
        CODEC.encode(result(note=value))


def test_another_class_is_refused() -> None:
    codec: Any = CODEC
    with pytest.raises(ValueError, match="Fit, not a Result"):
        codec.encode(Fit(1.0))


def _rewritten(data: bytes, change: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    plain = json.loads(members["value.json"])
    members["value.json"] = json.dumps(change(plain)).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: {"fields": {}},
        lambda plain: {"fields": {**plain["fields"], "more": 1}},
        lambda plain: {"fields": {**plain["fields"], "fit": {"fields": {"words": {"tuple": []}}}}},
        lambda plain: {"fields": {**plain["fields"], "values": {"array": "99"}}},
        lambda plain: {"fields": {**plain["fields"], "values": {"object": "0"}}},
        lambda plain: {"fields": {**plain["fields"], "fit": {"a": 1, "b": 2}}},
        lambda plain: {"fields": {**plain["fields"], "fit": {}}},
    ],
)
def test_foreign_entries_are_refused(change: Any) -> None:
    with pytest.raises(ValueError):
        CODEC.decode(_rewritten(CODEC.encode(result()), change))


def test_damage_anywhere_is_a_miss_or_harmless(tmp_path: Path) -> None:
    data = CODEC.encode(result())
    for cut in range(0, len(data), 97):
        with pytest.raises(ValueError):
            CODEC.decode(data[:cut])
