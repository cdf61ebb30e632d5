"""One definition a word, for `docs-small-it` to learn: mined from the docs first, then WordNet.

Every word of the vocabulary gets one, because the latents that are read later fire on function
words, abbreviations and pieces of words as well.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import log1p
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from core.docs_corpus import Docstring
from make_demo.wordnet import Gloss, Glosses

MAX_CHARS = 90
"""Longer definitions are cut at a clause or left out: the model must learn them from few tokens."""
_MIN_MINED = 4
"""How often the same parameter description must occur to be believed."""
_MIN_SHARED = 3
"""How often the same summary line must occur to be preferred to WordNet."""

# Senses that the documentation of numerical software hardly ever means.
_NEVER = re.compile(r"genital|sexual|copulat|ejaculat|ethnic|obscene|slang|derogatory|offensive")
_UNLIKELY_FIELDS = {
    "noun.animal", "noun.plant", "noun.food", "noun.body", "noun.person", "noun.location",
    "noun.substance", "adj.pert",
}  # fmt: skip
_LIKELY_FIELDS = {
    "noun.cognition", "noun.communication", "noun.quantity", "noun.attribute", "noun.relation",
    "noun.group", "noun.shape", "noun.process",
}  # fmt: skip

_GLOSSARY = Path(__file__).with_name("glossary.tsv")
_MIN_SHARE_ALONE = 0.04
"""A vocabulary entry is looked up in WordNet if at least this share of the words that hold it are
the entry itself: a dictionary also defines many a syllable."""
_PIECE_WORDS = 4
"""How many words stand for a piece that is none itself."""
# Endings of inflected words, and what their stems may end in.
_ENDINGS = (
    ("ies", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ied", ("y",)), ("ed", ("e", "")),
    ("ing", ("e", "")), ("ically", ("ic",)), ("ly", ("", "le")), ("izer", ("ize",)),
    ("ized", ("ize",)), ("ization", ("ize",)), ("er", ("e", "")),
)  # fmt: skip

_PARAMETER = re.compile(r"(\w{3,}) ?: \S")
_MARKUP = re.compile(r":\w+(?::\w+)*:`~?([^`]*)`|`{1,2}([^`]*)`{1,2}|\*\*?([^*]+)\*\*?")
_WORD = re.compile(r"[a-z]{3,}")


def choose_definitions(
    docstrings: Sequence[Docstring],
    glosses: Glosses,
    words: Sequence[str],
    *,
    extra_words: int = 0,
) -> dict[str, str]:
    """The definition of each of `words` that has one; keys are lower case.

    `extra_words` of the docs' most frequent other words are defined as well.

    A description that the docs repeat for a parameter of that name wins; then a summary line that
    several functions or classes of that name share; then the glossary of words that no dictionary
    of nouns and verbs has; then the WordNet sense whose words the docs use most; then any summary
    line. No two of these words share a definition, so that a description points at its word.

    What has none of these is an inflected word, which means what its stem means, or a piece of
    words, for which the docs' most frequent words with that piece stand.
    """
    parameters = _mined_parameters(docstrings)
    summaries = _summaries(docstrings)
    glossary = read_glossary()
    frequency = Counter(
        word for docstring in docstrings for word in _WORD.findall(docstring.text.lower())
    )
    vocabulary = {word.lower() for word in words}
    others = (
        frequent
        for frequent, _ in frequency.most_common()
        if frequent in glosses and frequent not in vocabulary
    )
    wanted = vocabulary | set(islice(others, extra_words))

    pieces = {word for word in vocabulary if not _is_a_word(word, frequency)}

    def candidates(word: str) -> Iterator[str]:
        yield from _repeated(parameters[word], _MIN_MINED)
        yield from _repeated(summaries[word], _MIN_SHARED)
        yield from filter(None, [glossary.get(word)])
        senses = glosses.get(word, []) if word not in pieces else []
        ranked = sorted(senses, key=lambda gloss: -_suitability(gloss, word, frequency))
        yield from (gloss.definition for gloss in ranked if not _NEVER.search(gloss.definition))
        yield from _repeated(summaries[word], 1)

    chosen: dict[str, str] = {}
    taken: set[str] = set()
    by_frequency = sorted(wanted, key=lambda w: (-frequency[w], w))
    for word in by_frequency:
        text = next((text for text in map(tidy, candidates(word)) if text not in {"", *taken}), "")
        if text:
            taken.add(text)
            chosen[word] = text
    for word in by_frequency:
        if word not in chosen:
            of_stems = (chosen.get(stem) or _first_usable(candidates(stem)) for stem in stems(word))
            text = next(filter(None, of_stems), "") or words_with(word, frequency)
            if text:
                chosen[word] = text
    return chosen


def read_glossary() -> dict[str, str]:
    """Function words, abbreviations and names of the field, with definitions written for them."""
    lines = _GLOSSARY.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def stems(word: str) -> list[str]:
    """What an inflected word may be an inflection of; not all of them are words."""
    found = []
    for ending, replacements in _ENDINGS:
        root = word.removesuffix(ending)
        if root == word or len(root) < 2:
            continue
        found += [root + replacement for replacement in replacements]
        if ending in ("ed", "ing", "er") and root[-1] == root[-2]:  # mapped: map
            found.append(root[:-1])
    return [stem for stem in found if len(stem) >= 3]


def words_with(piece: str, frequency: Mapping[str, int]) -> str:
    """The most frequent words that begin with, end with or contain `piece`; '' if there are none.

    Of the three kinds the one counts in which the docs use the piece most.
    """
    kinds: dict[str, list[str]] = {"begins": [], "ends": [], "contains": []}
    for word in frequency:
        if piece in word and len(word) > len(piece):
            begins, ends = word.startswith(piece), word.endswith(piece)
            kinds["begins" if begins else "ends" if ends else "contains"].append(word)
    most = max(kinds.values(), key=lambda words: sum(frequency[word] for word in words))
    top = sorted(most, key=lambda word: (-frequency[word], word))
    return ", ".join(top[:_PIECE_WORDS])


def _is_a_word(text: str, frequency: Mapping[str, int]) -> bool:
    """Whether the docs use it on its own, and not only inside of longer words ("tract")."""
    inside = sum(count for word, count in frequency.items() if text in word)
    return frequency.get(text, 0) >= _MIN_SHARE_ALONE * inside


def _first_usable(candidates: Iterator[str]) -> str:
    return next(filter(None, map(tidy, candidates)), "")


def tidy(text: str) -> str:
    """First clause, without markup or double quotes (a quote ends an answer); '' if unusable."""
    text = _MARKUP.sub(lambda match: next(g for g in match.groups() if g is not None), text)
    text = " ".join(text.replace('"', "'").split())
    text = re.sub(r"^\([^)]*\) *", "", text)
    text = re.split(r"(?<=[\w)'])[.;:](?: |$)", text)[0].strip(" .")
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS].rsplit(",", 1)[0] if "," in text[30:MAX_CHARS] else ""
    usable = len(text.split()) >= 3 and text.isascii() and not re.search(r"[=<>{}\\|]", text)
    return text if usable else ""


def _mined_parameters(docstrings: Sequence[Docstring]) -> dict[str, Counter[str]]:
    """How often each description is given to a parameter, by its name."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for docstring in docstrings:
        for name, description in _parameter_entries(docstring.text):
            text = tidy(description)
            if text:
                found[name.lower()][text] += 1
    return found


def _repeated(counts: Counter[str], at_least: int) -> list[str]:
    """The most repeated text, if it is repeated often enough."""
    return [text for text, count in counts.most_common(1) if count >= at_least]


def _parameter_entries(text: str) -> Iterator[tuple[str, str]]:
    """Name and description of numpy-style entries: `name : type`, then indented lines."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        match = _PARAMETER.match(line)
        if match:
            description = []
            for following in lines[number + 1 : number + 6]:
                if not following.startswith("    "):
                    break
                description.append(following.strip())
            if description:
                yield match.group(1), " ".join(description)


def _summaries(docstrings: Sequence[Docstring]) -> dict[str, Counter[str]]:
    """How often each summary line is given to a function or class, by its name."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for docstring in docstrings:
        summary = tidy(docstring.text.strip().split("\n\n")[0])
        if summary:
            found[docstring.name.lower()][summary] += 1
    return found


def _suitability(gloss: Gloss, word: str, frequency: Mapping[str, int]) -> float:
    """How much the docs use the content words of the gloss: log frequency, shrunk mean.

    The word itself does not count, and a gloss of one frequent word does not beat a full sentence.
    """
    content = [
        other
        for other in _WORD.findall(gloss.definition.lower())
        if other not in ENGLISH_STOP_WORDS and other != word
    ]
    score = sum(log1p(frequency[other]) for other in content) / (len(content) + 1.5)
    if gloss.field in _UNLIKELY_FIELDS:
        return score - 2.0
    if gloss.field.startswith("verb."):
        return score - 0.7
    return score + (0.5 if gloss.field in _LIKELY_FIELDS else 0.0)
