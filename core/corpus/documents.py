"""What a corpus is: a name, something to know it by, and documents that can be read again."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text."""

    name: str
    """What it is called, for display: a function, a file, a row number."""
    text: str
    """All of it."""


@dataclass(frozen=True)
class Corpus:
    """A source of documents; nothing is read before `documents` is iterated."""

    name: str
    """For display."""
    digest: str
    """Changes whenever the documents may have changed (sha256, in hex)."""
    documents: Callable[[], Iterator[Document]]
    """The documents, in the same order each time."""
    max_tokens: int | None = None
    """How much of it to use unless told otherwise; None for all."""


def digest_of(*parts: object) -> str:
    """sha256, in hex, of the parts' representations, which must be those of plain values."""
    return hashlib.sha256("\n".join(repr(part) for part in parts).encode()).hexdigest()


def pasted_text(text: str, *, name: str = "Pasted text") -> Corpus:
    """A text as a corpus of one document.

    Raises ValueError when there is nothing in it but space, or half a surrogate pair.
    """
    if not any(unicodedata.category(char)[0] not in "ZC" for char in text):
        raise ValueError("The text is empty; paste a few words.")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text is not valid Unicode at character {error.start}; remove that character."
        ) from error
    digest = hashlib.sha256(encoded).hexdigest()
    return Corpus(name, digest, lambda: iter((Document(name, text),)))
