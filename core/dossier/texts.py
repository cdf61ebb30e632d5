"""A text as words, and where a unit fires in it: what explanations are tried on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from core.autointerp.rules import Rule, fitting_words, word_groups
from core.descriptions.patterns import Pattern
from core.tokens import TokenTexts, texts_of_row

if TYPE_CHECKING:
    from core.dossier.shared import Sample, Units

ACTIVE = 0.1
"""Share of the largest activation from which on a latent counts as active, as in autointerp."""
STRONG = 0.5
"""Share from which on it counts as strong."""
_WINDOW = 16
_PIECES: dict[str, Callable[[str, str], bool]] = {
    "beginning": str.startswith,
    "ending": str.endswith,
    "inside": str.__contains__,
}
"""Rules about a piece of a word, and whether a word has it."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some rows of a text."""

    rows: tuple[tuple[str, ...], ...]
    """Words of each row."""
    word_of: Int[np.ndarray, " n_positions"]
    """Number of the word that each position of the sample is in, counted over all rows."""
    row_of: Int[np.ndarray, " n_words"]
    """Number of the row of each word."""
    spellings: tuple[str, ...]
    """All different words."""
    spelling: Int[np.ndarray, " n_words"]
    """Number of each word's spelling."""

    @property
    def n(self) -> int:
        """Words in all."""
        return len(self.row_of)


def words_of_sample(sample: "Sample", vocabulary: TokenTexts) -> Words:
    """The words that the positions of a sample make up, row by row."""
    places = sample.firings.places.astype(np.int64)
    row = places // sample.firings.context
    rows: list[tuple[str, ...]] = []
    word_of = np.empty(len(places), dtype=np.int64)
    row_of: list[int] = []
    for number, part in enumerate(
        np.split(np.arange(len(places)), np.flatnonzero(np.diff(row)) + 1)
    ):
        parts = texts_of_row(vocabulary, sample.firings.tokens[part].tolist()).parts
        words = []
        for group in word_groups(parts):
            word_of[part[group]] = len(row_of)
            row_of.append(number)
            word = "".join(parts[i] for i in group)
            words.append(word.strip(" ") or word)
        rows.append(tuple(words))
    numbers: dict[str, int] = {}
    spelling = [numbers.setdefault(word, len(numbers)) for some in rows for word in some]
    return Words(
        tuple(rows),
        word_of,
        np.array(row_of, dtype=np.int64),
        tuple(numbers),
        np.array(spelling, dtype=np.int64),
    )


def _is_local(rule: Rule) -> bool:
    """Whether a rule looks at one word at a time."""
    if isinstance(rule, Pattern):
        return rule.kind not in ("after", "before")
    return not rule.phrases


def predicted(rule: Rule, words: Words) -> Bool[np.ndarray, " n_words"]:
    """At which words a rule says that a latent fires.

    A topic is not in one word: where a word of it stands, the words around it count.
    """
    if _is_local(rule):
        # Whether a word fits is then a matter of the word alone: each spelling is judged once.
        fits = np.array(fitting_words(rule, words.spellings), dtype=bool)[words.spelling]
    else:
        fits = np.array([fit for row in words.rows for fit in fitting_words(rule, row)], dtype=bool)
    if isinstance(rule, Pattern) and rule.kind in _PIECES and rule.token != rule.token.lower():
        # Judges leave letter case aside; a piece that was found in capitals is meant in capitals.
        found = _PIECES[rule.kind]
        right = [found(word, rule.token) for word in words.spellings]
        fits &= np.array(right, dtype=bool)[words.spelling]
    if isinstance(rule, Pattern) and rule.kind == "topic":
        for place in np.flatnonzero(fits):
            low, high = max(0, place - _WINDOW), place + _WINDOW + 1
            same = words.row_of[low:high] == words.row_of[place]
            fits[low:high] |= same
    return fits


def strength_by_word(sample: "Sample", words: Words, unit: int) -> Float[np.ndarray, " n_words"]:
    """Strongest activation of a unit in each word."""
    column = np.asarray(sample.firings.latents[:, [unit]].todense()).ravel()
    found = np.zeros(words.n, dtype=np.float32)
    np.maximum.at(found, words.word_of, column)
    return found


def counts_of(rule: Rule, units: "Units", number: int, words: Words) -> tuple[int, int, int, int]:
    """Words of the held-out text: at which a unit fires and that a rule names; that it names; at
    which the unit fires strongly; both of these.

    A unit fires where it reaches a tenth of its largest activation on the read text, strongly where
    it reaches half: what it does weakly is another matter, of the line on weak activations.
    """
    strength = strength_by_word(units.held_out, words, number)
    peak = float(units.whole.peak[number])
    fires, strongly = strength > ACTIVE * peak, strength > STRONG * peak
    said = predicted(rule, words)
    found = (said & fires, said, strongly, said & strongly)
    right, named, active, both = (int(it.sum()) for it in found)
    return right, named, active, both


def around(words: Words, place: int, n: int = 8) -> str:
    """The words around one, which is between « and »."""
    row = int(words.row_of[place])
    first = int(np.searchsorted(words.row_of, row))
    here = words.rows[row]
    at = place - first
    before, after = here[max(0, at - n) : at], here[at + 1 : at + 1 + n]
    return " ".join([*before, f"«{here[at]}»", *after])
