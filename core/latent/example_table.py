"""Rows of examples as plain tables, for whoever reads no shades."""

from collections.abc import Sequence
from typing import Any

from core.latent.examples import ExampleRow
from core.view.markup import visible_token


def examples_table(rows: Sequence[ExampleRow]) -> list[dict[str, Any]]:
    """One line an example: its activation, the token that it is about, the text, and every token
    at which the latent is active, with its activation."""
    found = []
    for row in rows:
        pairs = zip(row.tokens, row.activations, strict=True)
        active = [f"{visible_token(text)} {value:.3f}" for text, value in pairs if value > 0]
        before, after = "…" * row.starts_inside, "…" * row.ends_inside
        line = {
            "activation": row.value if row.peak is None else row.activations[row.peak],
            "at token": "" if row.peak is None else visible_token(row.tokens[row.peak]),
            "text": before + "".join(row.tokens) + after,
            "active tokens": ", ".join(active),
            "source": row.source,
        }
        found.append(line)
    return found


def tokens_table(row: ExampleRow) -> list[dict[str, Any]]:
    """One line a token of one text, with its activation; None where that is not known."""
    pairs = zip(row.tokens, row.activations, strict=True)
    return [
        {"token": visible_token(text), "activation": value if value == value else None}
        for text, value in pairs
    ]
