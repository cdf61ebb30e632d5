"""A single token as text."""

from typing import Any


def token_text(tokenizer: Any, token_id: int) -> str:
    """The text of one token; its number for models without a tokenizer (`None`)."""
    return str(token_id) if tokenizer is None else str(tokenizer.decode([token_id]))
