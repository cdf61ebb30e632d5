"""Examples, or one text: shaded tokens for readers, tables for programs (docs/agents.md)."""

from collections.abc import Sequence

import streamlit as st

from core.latent.example_table import examples_table, tokens_table
from core.latent.examples import ExampleRow, effects_html, rows_html
from pages.parts import programs


def draw(
    rows: Sequence[ExampleRow], *, strongest: float, break_lines: bool = False, opens: bool = False
) -> None:
    """Rows of tokens shaded by activation; `strongest` is the activation of the full shade.

    With `opens`, the name of a row opens its whole text.
    """
    if programs.is_one():
        _table(rows)
    else:
        st.html(rows_html(rows, strongest=strongest, break_lines=break_lines, opens=opens))


def draw_effects(row: ExampleRow, *, least: float) -> None:
    """A row of effects of either sign, shaded from `least` on."""
    if programs.is_one():
        _table([row])
    else:
        st.html(effects_html(row, least=least))


def _table(rows: Sequence[ExampleRow]) -> None:
    if len(rows) == 1 and not rows[0].value:
        st.dataframe(tokens_table(rows[0]), hide_index=True)
    elif rows:
        st.dataframe(examples_table(rows), hide_index=True)
