"""Texts in CSV files that a spreadsheet takes for texts.

A cell that begins with =, +, - or @ is a formula to a spreadsheet, and formulas can fetch and send.
Tokens, descriptions and notes come from anywhere, so such a text gets an apostrophe in front, which
spreadsheets hide; `plain` takes it away where the explorer reads its own files. Parquet and JSON
hold every text as it is.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LINE_END = "\r\n"
"""Of lines in CSV files; with another, Python leaves a carriage return in a text unquoted, and what
stands behind it begins a cell."""
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)


def harmless(text: str) -> str:
    """`text` as a cell that is no formula; numbers written as texts stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain(text: str) -> str:
    """The text that `harmless` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def harmless_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with harmless texts and names of columns; numbers stay numbers."""
    import pandas as pd

    columns = {}
    for place, (_, column) in enumerate(table.items()):
        is_text = not (
            pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column)
        )
        columns[place] = column.astype(object).map(_cell) if is_text else column
    changed = pd.DataFrame(columns, index=table.index)
    changed.columns = pd.Index([_cell(name) for name in table.columns], name=table.columns.name)
    return changed


def _cell(value: object) -> object:
    return harmless(value) if isinstance(value, str) else value
