"""Tokens as text: each on its own, all of a vocabulary, and rows that read as the original."""

from core.tokens.rows import (
    Pieces,
    RowTexts,
    join_parts,
    join_row,
    joined_text,
    row_texts,
    texts_of_row,
    whole_characters,
)
from core.tokens.vocabulary import TokenTexts, token_text, token_texts, vocabulary_texts

__all__ = [
    "Pieces",
    "RowTexts",
    "TokenTexts",
    "join_parts",
    "join_row",
    "joined_text",
    "row_texts",
    "texts_of_row",
    "token_text",
    "token_texts",
    "vocabulary_texts",
    "whole_characters",
]
