"""Small files that unpack to more than the memory holds are refused before they do."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.corpus import tables
from core.corpus.files import file_columns, text_file
from core.descriptions.files import read_descriptions_file
from core.enrichment.user_sets import read_word_lists
from core.latent.lists import read_list_file

MOST_BYTES = 120 << 20
"""What reading any of them may take; unpacked, each has at least twice as much."""


def written(file: Path, table: pa.Table, **options: object) -> None:
    pq.write_table(table, file, compression="zstd", **options)


def one_text_many_times(file: Path) -> None:
    written(file, pa.table({"text": pa.array(["a" * 1_000_000] * 300)}))


def one_long_text(file: Path) -> None:
    text = pa.array(["b" * (300 << 20)])
    written(file, pa.table({"text": text}), use_dictionary=False)


def long_texts(file: Path) -> None:
    written(file, pa.table({"text": pa.array(["c" * 25_000_000] * 12)}))


def many_columns(file: Path) -> None:
    written(file, pa.table({f"c{number}": pa.array(["x"]) for number in range(2000)}))


def many_rows(file: Path) -> None:
    written(file, pa.table({"text": pa.nulls(21_000_000, pa.string())}))


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one text, many times": (one_text_many_times, "MiB of text, over 200 times its size"),
    "one long text": (one_long_text, "unpacks to 300 MiB in one piece"),
    "long texts": (long_texts, "longer than 5,000,000 characters|over 200 times its size"),
    "many columns": (many_columns, "has 2,000 columns; at most 1,000"),
    "many rows": (many_rows, "more than 20,000,000 rows"),
}


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that Python and Arrow had at most during `work`."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())  # counts from here
    usual = pa.default_memory_pool()
    tracemalloc.start()
    pa.set_memory_pool(pool)
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + int(pool.max_memory() or 0)
    finally:
        pa.set_memory_pool(usual)
        tracemalloc.stop()


def test_the_measure_sees_what_arrow_takes() -> None:
    assert peak_of(lambda: pa.array([b"x" * (50 << 20)])) > 40 << 20


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_parquet_bombs(name: str, tmp_path: Path) -> None:
    make, reason = BOMBS[name]
    file = tmp_path / "bomb.parquet"
    make(file)
    assert file.stat().st_size < 1_000_000

    def read() -> None:
        with pytest.raises(ValueError, match=reason):
            sum(len(document.text) for document in text_file(file).documents())

    assert peak_of(read) < MOST_BYTES


@pytest.mark.slow
def test_other_columns_stay_packed(tmp_path: Path) -> None:
    """A column of numbers beside the texts would take 240 MB."""
    file = tmp_path / "beside.parquet"
    numbers = pa.array([[0.0] * 300_000] * 100, pa.list_(pa.float64()))
    written(file, pa.table({"text": pa.array(["hello"] * 100), "vector": numbers}))
    del numbers
    found: list[str] = []
    peak = peak_of(lambda: found.extend(it.text for it in text_file(file).documents()))
    assert found == ["hello"] * 100
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_texts_of_every_arrow_type(kind: pa.DataType, use_dictionary: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    texts = ["one", None, "two", "", "one"] * 300
    column = pa.array(texts, pa.string()).cast(kind)
    written(
        file,
        pa.table({"n": pa.array(range(1500)), "text": column, "none": pa.nulls(1500, pa.string())}),
        use_dictionary=use_dictionary,
        row_group_size=400,
    )
    assert file_columns(file) == ["text"]
    documents = list(text_file(file).documents())
    assert [it.text for it in documents] == [text for text in texts if text]
    assert [it.name for it in documents][:3] == ["a.parquet: 1", "a.parquet: 3", "a.parquet: 5"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", "[" + ",".join(["{}"] * 2_000_000) + "]", "no column with text"),
        ("a.json", '[{"text": "' + "a" * 9_000_000 + '"}]', "longer than 8,000,000 characters"),
        ("a.json", "[" * 200_000, "nested too deeply"),
        ("a.json", '[{"text": ' + "[" * 200_000, "nested too deeply"),
        ("a.json", '[{"n": ' + "9" * 5000 + "}]", "is not JSON: Exceeds the limit"),
        ("a.json", '[{"text": "a"} {"text": "b"}]', "no comma behind entry 1"),
        ("a.json", '[{"text": "a"}] []', "something stands behind the list"),
        ("a.json", '[{"text": "a"},', "ends before the list does"),
        ("a.json", '[{"text": "a"}, 3]', "an entry is no object"),
        ("a.jsonl", '{"text": "' + "a" * 9_000_000 + '"}', "longer than 8,000,000 characters"),
        ("a.jsonl", '{"text": "' + "a" * 6_000_000 + '"}', "longer than 5,000,000 characters"),
        ("a.jsonl", '{"n": ' + "9" * 5000 + "}", "Line 1 of a.jsonl is not JSON"),
    ],
)
def test_json_bombs(name: str, content: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(content)

    def read() -> None:
        with pytest.raises(ValueError, match=reason):
            list(text_file(file).documents())

    assert peak_of(read) < MOST_BYTES


def test_json_is_read_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a piece ends, the rows are those of json.loads."""
    rows = [{"text": f'a "{n}" }}, {{ ü\u2028', "n": [n, {"x": [1.5e3]}]} for n in range(40)]
    for indent in (None, 2):
        file = tmp_path / f"{indent}.json"
        file.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
        for piece in (1, 2, 3, 7, 50, 1 << 20):
            monkeypatch.setattr(tables, "_PIECE", piece)
            assert list(tables.json_rows(file)) == rows
    file.write_text("[]")
    assert list(tables.json_rows(file)) == []


@pytest.mark.slow
def test_bombs_of_other_uploads() -> None:
    objects = b"[" + b",".join([b"{}"] * 2_500_000) + b"]"

    def read() -> None:
        with pytest.raises(ValueError, match="it holds 2,500,001 objects or lists"):
            read_descriptions_file(objects, "a.json", d_sae=8)
        with pytest.raises(ValueError, match="it holds 2,500,001 objects or lists"):
            read_list_file(objects, "a.json")
        with pytest.raises(ValueError, match="objects or lists"):
            read_word_lists(b'{"a": [' + b",".join([b"[]"] * 30_000) + b"]}", "a.json")
        with pytest.raises(ValueError, match="nested too deeply"):
            read_word_lists(b"[" * 15_000, "a.json")
        with pytest.raises(ValueError, match="more than 5,000 rows"):
            read_list_file(b"latent\n" + b"1\n" * 2_000_000, "a.csv")
        with pytest.raises(ValueError, match="more than 500,000 rows"):
            read_word_lists(b"a\n" + b"1\n" * 2_000_000, "a.csv")

    assert peak_of(read) < MOST_BYTES


@pytest.mark.slow
def test_a_long_text_of_pandas_is_read(tmp_path: Path) -> None:
    """What people write by default stays within the bounds."""
    file = tmp_path / "a.parquet"
    words = pd.Series([f"word{number % 977} " * 50 for number in range(60_000)])
    pd.DataFrame({"text": words + words.index.astype(str)}).to_parquet(file)
    assert sum(len(it.text) for it in text_file(file).documents()) > 20_000_000
