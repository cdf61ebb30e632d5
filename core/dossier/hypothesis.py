"""A reader's hypothesis: an explanation, or a set of tokens, and where it says that a latent fires.

A set of tokens is taken exactly, token by token. Of an explanation the words in quotation marks
count, else its telling words, as for every explanation that is judged without a chat model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csr_array

from core.autointerp.rules import TextRule, rule_from_text
from core.dossier.shared import Sample, Units
from core.dossier.texts import predicted
from core.dossier.view import KINDS
from core.dossier.view import MOST_HYPOTHESIS as MOST_TEXT
from core.tokens import TokenTexts
from core.view.markup import visible_token

_MOST_TOKENS = 500
_ENTRY = re.compile(r'"((?:[^"\\\n]|\\.)*)"|([^\s,;"]+)')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Hypothesis:
    """What a reader thinks that a latent fires on."""

    kind: str
    """One of `KINDS`."""
    text: str
    """As it was typed."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"The kind is {self.kind[:40]!r}; choose of {', '.join(KINDS)}.")
        if not self.text.strip():
            raise ValueError("There is no hypothesis; type an explanation or a set of tokens.")
        if len(self.text) > MOST_TEXT:
            raise ValueError(
                f"The hypothesis has {len(self.text):,} characters; write {MOST_TEXT:,} or fewer."
            )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Where a hypothesis says that the latent fires, unit by unit of a sample of text."""

    unit: str
    """What is told: `tokens` or `words`."""
    unit_of: Int[np.ndarray, " n_positions"]
    """Number of the unit that each position is in, ascending."""
    row_of: Int[np.ndarray, " n_units"]
    """Row of the text that each is in: what is drawn anew for intervals."""
    said: Bool[np.ndarray, " n_units"]
    """Whether the hypothesis names it."""
    spelling: Int[np.ndarray, " n_units"]
    """Equal numbers for equal tokens or words."""
    reads_as: str
    """How the hypothesis was read."""

    def members(self) -> csr_array:
        """1 for each position in its unit, `[n_units, n_positions]`."""
        n = len(self.unit_of)
        where = (self.unit_of, np.arange(n))
        return csr_array((np.ones(n, np.float32), where), shape=(len(self.row_of), n))


def read_tokens(text: str, vocabulary: TokenTexts) -> tuple[Int[np.ndarray, " n"], str]:
    """The tokens that a typed list names, and the list as it was read.

    In quotation marks, a token's text exactly, spaces included (`\\n` for a line break); without,
    the word with and without a space in front. Commas, spaces and line breaks separate.

    Raises ValueError for an entry that is no token of this model, and for none or too many.
    """
    by_text: dict[str, list[int]] = {}
    for number, known in enumerate(vocabulary.array):
        by_text.setdefault(str(known), []).append(number)
    found: list[int] = []
    for match in _ENTRY.finditer(text):
        quoted, bare = match.groups()
        wanted = [bare, f" {bare}"] if quoted is None else [_unescaped(quoted)]
        ids = [number for it in wanted for number in by_text.get(it, [])]
        if not ids:
            raise ValueError(
                f"{visible_token(wanted[0])[:60]!r} is no single token of this model; type the "
                "tokens that it is cut into, each in quotation marks, or an explanation instead."
            )
        found += ids
    different = np.array(sorted(set(found)), dtype=np.int64)
    if not len(different):
        raise ValueError('There is no token in the list; type such as the, " of", "\\n".')
    if len(different) > _MOST_TOKENS:
        raise ValueError(f"These are {len(different):,} tokens; give {_MOST_TOKENS} or fewer.")
    shown = ", ".join(f"“{visible_token(vocabulary.text(int(it)))}”" for it in different[:40])
    more = f" and {len(different) - 40} more" if len(different) > 40 else ""
    return different, f"{len(different)} tokens: {shown}{more}"


def predict(hypothesis: Hypothesis, units: Units) -> Prediction:
    """Where the hypothesis says that a latent fires on the held-out text.

    Raises ValueError for a list with what is no token, and for an explanation that names no word.
    """
    sample, vocabulary = units.held_out, units.index.vocabulary
    if hypothesis.kind == "tokens":
        ids, reads_as = read_tokens(hypothesis.text, vocabulary)
        return _by_token(sample, np.isin(sample.firings.tokens, ids), reads_as)
    rule = rule_from_text(hypothesis.text)
    if rule.is_empty:
        raise ValueError(
            "The explanation names no word to look for; put words in quotation marks, type a set "
            "of tokens, or have a chat model judge it."
        )
    words = units.words
    return Prediction(
        "words",
        words.word_of,
        _rows(sample)[np.searchsorted(words.word_of, np.arange(words.n))],
        predicted(rule, words),
        words.spelling,
        rule_in_words(rule),
    )


def rule_in_words(rule: TextRule) -> str:
    """What the offline judge looks for, as a sentence."""
    titles = {
        "words": "the words",
        "beginnings": "words that begin with",
        "endings": "words that end in",
        "pieces": "words that hold",
        "phrases": "the phrases",
        "classes": "",
    }
    parts = []
    for name, title in titles.items():
        some: Sequence[str] = getattr(rule, name)
        if some:
            listed = ", ".join(some if name == "classes" else (f"“{it}”" for it in some))
            parts.append(f"{title} {listed}".strip())
    return "; ".join(parts)


def _by_token(sample: Sample, said: np.ndarray, reads_as: str) -> Prediction:
    n = len(said)
    tokens = sample.firings.tokens.astype(np.int64)
    return Prediction("tokens", np.arange(n), _rows(sample), said, tokens, reads_as)


def _rows(sample: Sample) -> np.ndarray:
    return sample.firings.places.astype(np.int64) // sample.firings.context


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), text)
