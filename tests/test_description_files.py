"""Files of descriptions as people have them: which column counts, packed files, what is refused."""

import gzip
import io
import json
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.descriptions import decoding, read_descriptions_file

TABLE = b"row,index,latent,description\n0,0,2,dates\n1,1,0,places\n"
TRUE = ["places", "", "dates"]


def texts(data: bytes, name: str = "a.csv", d_sae: int = 3) -> list[str]:
    return list(read_descriptions_file(data, name, d_sae=d_sae).descriptions.texts)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "column",
    ["latent", "latent_idx", "latent_id", "feature", "feature_id", "feature_idx", " Feature_ID "],
)
def test_the_latent_s_own_column_counts_before_the_row_s(column: str) -> None:
    rows = [{"index": 0, column: 2, "description": "dates"}]
    rows += [{"index": 1, column: 0, "description": "places"}]
    frame = pd.DataFrame(rows)
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    assert texts(frame.to_csv(index=False).encode()) == TRUE
    assert texts(lines, "a.jsonl") == TRUE
    assert texts(json.dumps(rows).encode(), "a.json") == TRUE
    assert texts(parquet(frame), "a.parquet") == TRUE


def test_an_index_of_the_table_itself_is_read_from_parquet() -> None:
    frame = pd.DataFrame(
        {"description": ["dates", "places"]}, index=pd.Index([2, 0], name="latent")
    )
    assert texts(parquet(frame), "a.parquet") == TRUE


@pytest.mark.parametrize(
    "name", ["a.csv.gz", "a.csv", "A.CSV.GZ", "a.txt", "a.csv.gzip"], ids=lambda name: name
)
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda it: gzip.compress(it[:20]) + gzip.compress(it[20:])]
)
def test_gzip_is_told_by_its_bytes(name: str, pack: Callable[[bytes], bytes]) -> None:
    assert texts(pack(TABLE), name) == TRUE


def test_gzipped_json_lines_with_a_mark_in_front() -> None:
    data = (
        b'\xef\xbb\xbf{"latent": "2", "description": "dates"}\r\n{"latent": 0.0, "label": "places"}'
    )
    assert texts(gzip.compress(data), "a.jsonl.gz") == TRUE


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbflatent;description\r\n2;dates\r\n0;places\r\n",
        b"latent\tdescription\r\n2\tdates\r\n0\tplaces",
        b"latent,description\r2,dates\r0,places\r",
        b"sep=;\r\nlatent;description\r\n2;dates\r\n0;places\r\n",
        b"latent,description\n 2.0 ,dates\n0,places\n",
        b"latent,description\n2,dates\n0,old\n0,places\n",
        b"latent,description\n2,dates\n0,places\n0,\n2,  \n",
    ],
)
def test_forms_of_tables(data: bytes) -> None:
    assert texts(data) == TRUE


def test_an_empty_row_takes_nothing_back() -> None:
    read = read_descriptions_file(
        b"latent,description,score\n1,dates,.5\n1,,.9\n", "a.csv", d_sae=3
    )
    assert read.descriptions.texts.tolist() == ["", "dates", ""]
    assert read.descriptions.scores[1] == 0.5
    assert (read.rows, read.repeated, read.blank) == (2, 1, 1)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.descriptions.files.MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(decoding, "MAX_PARQUET_BYTES", 1 << 20)


def bomb_of_texts() -> bytes:
    frame = pd.DataFrame({"latent": [0, 1] * 5000, "description": ["x" * 1000] * 10_000})
    return parquet(frame)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (gzip.compress(bytes(3 << 20)), "a.csv", "unpacks to more than 1 MiB"),
        (gzip.compress(TABLE)[:-9], "a.csv.gz", "not a whole gzip file"),
        (gzip.compress(TABLE)[:12] + b"\xff" * 40, "a.csv.gz", "not a whole gzip file"),
        (bomb_of_texts(), "a.parquet", "unpacks to more than 1 MiB"),
        (
            parquet(pd.DataFrame({"latent": [0], "description": ["a"]}))[:-9],
            "a.parquet",
            "whole Parquet",
        ),
        (b"PK\x03\x04rest", "a.csv", "a zip archive or a spreadsheet"),
        (gzip.compress(TABLE), "a.gz", "does not end in"),
        (b"latent,description\n1_0,a\n", "a.csv", "'latent' is '1_0'"),
        (b"latent,description\n1e1,a\n", "a.csv", "'latent' is '1e1'"),
        (b"latent,Latent,description\n1,2,a\n", "a.csv", "2 columns 'latent'"),
        (b"index,feature,description\n0,dates,a\n", "a.csv", "column 'feature' is 'dates'"),
        (
            b"index,latent,description\n0,3,a\n1,1,b\n2,-1,c\n",
            "a.csv",
            r"2 of 3 rows of a.csv are about latents outside 0 to 2 \(the first is 3, line 2\)",
        ),
        (b'{"latent": 1' + b"0" * 5000 + b', "label": "a"}', "a.jsonl", "cannot be read|not JSON"),
    ],
)
def test_refused_in_a_sentence(
    data: bytes, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    with pytest.raises(ValueError, match=reason) as caught:
        read_descriptions_file(data, name, d_sae=3)
    assert str(caught.value).endswith(".")


def test_a_parquet_file_of_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_ROWS", 3)
    table = pa.table({"latent": [0, 1, 2, 0], "description": ["a", "b", "c", "d"]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    with pytest.raises(ValueError, match="has 4 rows; at most 3 are read"):
        read_descriptions_file(buffer.getvalue(), "a.parquet", d_sae=3)
