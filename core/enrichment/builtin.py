"""Sets of tokens that any vocabulary has: how a token is written, its letters, its script."""

import unicodedata
from collections import defaultdict
from functools import lru_cache
from itertools import pairwise

import numpy as np

from core.enrichment.token_sets import TokenSets
from core.tokens import TokenTexts

_SCRIPTS = {
    "LATIN": "Latin",
    "GREEK": "Greek",
    "CYRILLIC": "Cyrillic",
    "ARMENIAN": "Armenian",
    "HEBREW": "Hebrew",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Devanagari",
    "BENGALI": "Bengali",
    "GURMUKHI": "Gurmukhi",
    "GUJARATI": "Gujarati",
    "TAMIL": "Tamil",
    "TELUGU": "Telugu",
    "KANNADA": "Kannada",
    "MALAYALAM": "Malayalam",
    "SINHALA": "Sinhala",
    "THAI": "Thai",
    "LAO": "Lao",
    "TIBETAN": "Tibetan",
    "MYANMAR": "Myanmar",
    "GEORGIAN": "Georgian",
    "HANGUL": "Korean (Hangul)",
    "ETHIOPIC": "Ethiopic",
    "KHMER": "Khmer",
    "MONGOLIAN": "Mongolian",
    "HIRAGANA": "Japanese (Hiragana)",
    "KATAKANA": "Japanese (Katakana)",
    "CJK": "Chinese characters (Han)",
}
"""First word of a letter's Unicode name, and what its script is called."""

_WORDS = {
    "months and weekdays": "january february march april may june july august september october "
    "november december monday tuesday wednesday thursday friday saturday sunday",
    "number words": "zero one two three four five six seven eight nine ten eleven twelve twenty "
    "thirty forty fifty hundred thousand million billion first second third fourth fifth",
    "English pronouns": "i you he she it we they me him her us them my your his its our their mine "
    "yours hers ours theirs myself yourself himself herself itself ourselves themselves",
    "English question words": "who what when where why how which whose whom",
    "negations": "no not never none nothing nobody neither nor cannot without",
}
_BRACKETS, _QUOTES = set("()[]{}<>"), set("\"'`“”‘’«»")


def builtin_sets(vocabulary: TokenTexts) -> TokenSets:
    """The built-in sets over all tokens of the vocabulary; those that it has no token of are named
    in `left_out`."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    words = {word: name for name, text in _WORDS.items() for word in text.split()}
    for token_id in range(len(vocabulary)):
        if not vocabulary.known[token_id]:
            continue
        if vocabulary.special[token_id]:
            found["how it is written", "special tokens"].append(token_id)
            continue
        if vocabulary.partial[token_id]:
            found["how it is written", "parts of a character (bytes)"].append(token_id)
            continue
        for group, name in _properties(vocabulary.plain(token_id), words):
            found[group, name].append(token_id)
    universe = np.flatnonzero(vocabulary.known)
    named = [(name, group, np.array(found.get((group, name), []))) for group, name in _order(found)]
    return TokenSets.from_ids(named, universe)


def _order(found: dict[tuple[str, str], list[int]]) -> list[tuple[str, str]]:
    written = [("how it is written", name) for name in _WRITTEN]
    words = [("words", name) for name in _WORDS]
    letters = [("first letter", f"begins with {letter}") for letter in map(chr, range(97, 123))]
    scripts = sorted(key for key in found if key[0] == "script")
    return [*written, *words, *letters, *scripts]


_WRITTEN = (
    "starts with a space",
    "continues a word",
    "Capitalised",
    "ALL CAPITALS",
    "CamelCase",
    "all digits",
    "punctuation and symbols",
    "brackets",
    "quotation marks",
    "line breaks",
    "only spaces",
    "one letter",
    "ten letters or more",
    "has an underscore",
    "accented letters",
    "emoji and pictures",
    "special tokens",
    "parts of a character (bytes)",
)


def _properties(text: str, words: dict[str, str]) -> set[tuple[str, str]]:
    """(group, name) of all sets that a token with this text belongs to."""
    found: set[str] = set()
    core = text.strip()
    letters = [character for character in core if character.isalpha()]
    if text[:1] == " " and core:
        found.add("starts with a space")
    if not core and text:
        found.add("line breaks" if "\n" in text or "\r" in text else "only spaces")
    elif "\n" in text or "\r" in text:
        found.add("line breaks")
    if core.isalpha():
        found |= _kinds_of_word(core)
        if not text[:1].isspace() and core[0].islower():
            found.add("continues a word")
    if core.isdigit():
        found.add("all digits")
    if core and not any(sign.isalnum() for sign in core):
        found |= _kinds_of_sign(core)
    if "_" in core.strip("_"):
        found.add("has an underscore")
    if any(_is_accented(letter) for letter in letters):
        found.add("accented letters")
    pairs = {("how it is written", name) for name in found}
    folded = core.casefold()
    if folded in words:
        pairs.add(("words", words[folded]))
    if folded[:1].isascii() and folded[:1].isalpha():
        pairs.add(("first letter", f"begins with {folded[0]}"))
    scripts = {script_of(letter) for letter in letters} - {""}
    return pairs | {("script", script) for script in scripts}


def _kinds_of_word(core: str) -> set[str]:
    found = set()
    if len(core) == 1:
        found.add("one letter")
    elif core.isupper():
        found.add("ALL CAPITALS")
    elif core[0].isupper() and core[1:].islower():
        found.add("Capitalised")
    elif any(a.islower() and b.isupper() for a, b in pairwise(core)):
        found.add("CamelCase")
    if len(core) >= 10:
        found.add("ten letters or more")
    return found


def _kinds_of_sign(core: str) -> set[str]:
    if all(unicodedata.category(sign) in ("So", "Mn", "Cf", "Sk") for sign in core) and any(
        ord(sign) >= 0x2190 for sign in core
    ):
        return {"emoji and pictures"}
    found = {"punctuation and symbols"}
    if set(core) & _BRACKETS:
        found.add("brackets")
    if set(core) & _QUOTES:
        found.add("quotation marks")
    return found


@lru_cache(maxsize=70_000)
def script_of(letter: str) -> str:
    """What the script of a letter is called, by its name in Unicode; "" for scripts not listed."""
    words = unicodedata.name(letter, "").split(" ", 2)
    if words[0] in ("HALFWIDTH", "FULLWIDTH") and len(words) > 1:
        del words[0]
    return _SCRIPTS.get(words[0], "")


@lru_cache(maxsize=70_000)
def _is_accented(letter: str) -> bool:
    if letter.isascii() or script_of(letter) != "Latin":
        return False
    return any(unicodedata.combining(mark) for mark in unicodedata.normalize("NFD", letter))
