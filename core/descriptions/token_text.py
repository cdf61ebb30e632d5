"""How tokens read: whether they continue a word, what they are called, how they are quoted."""

import re
import unicodedata
from itertools import pairwise

MAX_QUOTED = 24
"""Characters of a quoted token."""

_SIGNS = {"\n": "↵", "\r": "↵", "\t": "⇥"}


def is_wordy(text: str) -> bool:
    """Whether a token is letters, digits or underscores, but for a space before them."""
    core = text[1:] if text[:1] == " " else text
    return bool(core) and core.replace("_", "a").isalnum()


def starts_word(text: str) -> bool:
    """Whether a token begins a word: after a space, or as something that is no word at all."""
    return text[:1].isspace() or not is_wordy(text)


def opens_word(text: str) -> bool:
    """Whether a token without a space in front goes on with the word that this one is part of.

    A space that is a token of its own is the beginning of the word after it.
    """
    return text == " " or is_wordy(text)


def folded(text: str) -> str:
    """The same for every case of a word, and with or without the space before it."""
    return text.strip(" ").casefold() or text


def quoted(text: str) -> str:
    """A token or word in quotation marks, on one line, with signs for what would not be seen.

    One space at an end is kept as it is; longer runs, and spaces after a line break, show as `␣`.
    """
    shown = "".join(_SIGNS.get(character, character) for character in text)
    shown = re.sub(r"(↵|⇥)\1+", lambda run: f"{run[1]}×{len(run[0])}", shown)
    shown = re.sub(r"^ $|  +|(?<=[↵⇥]) $", _spaces, shown)
    # What a font has no sign for, such as control characters, is written as Python writes it.
    shown = "".join(c if unicodedata.category(c)[0] != "C" else _escaped(c) for c in shown)
    if len(shown) > MAX_QUOTED:
        shown = shown[: MAX_QUOTED - 1] + "…"
    mark = "'" if '"' in shown and "'" not in shown else '"'
    return f"{mark}{shown}{mark}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _spaces(run: re.Match[str]) -> str:
    return "␣" if len(run[0]) == 1 else f"␣×{len(run[0])}"


def kind_of(text: str) -> str:
    """Which class of text a word belongs to; `""` for ordinary words."""
    core = text.strip(" ")
    if not core.strip():
        return "line breaks" if "\n" in text else "spaces"
    if core.isnumeric():
        return "numbers"
    if not any(character.isalnum() for character in core):
        return "punctuation"
    if len(core) == 1:
        return "single letters"
    if "_" in core.strip("_"):
        return "names with underscores"
    if core.isupper():
        return "words in capitals"
    if any(low.islower() and up.isupper() for low, up in pairwise(core)):
        return "CamelCase names"
    return ""
