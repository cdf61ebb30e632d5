"""One definition a word, for `docs-small-it` to learn: mined from the docs first, then WordNet."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import log1p

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
_UNLIKELY_FIELDS = {
    "noun.animal", "noun.plant", "noun.food", "noun.body", "noun.person", "noun.location",
    "noun.substance", "adj.pert",
}  # fmt: skip
_LIKELY_FIELDS = {
    "noun.cognition", "noun.communication", "noun.quantity", "noun.attribute", "noun.relation",
    "noun.group", "noun.shape", "noun.process",
}  # fmt: skip

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
    """The definition of each word that has one; keys are lower case.

    `extra_words` of the docs' most frequent other words are defined as well.

    A description that the docs repeat for a parameter of that name wins; then a summary line that
    several functions or classes of that name share; then the WordNet sense whose words the docs
    use most; then any summary line.
    No two words share a definition, so that a description points at its word.
    """
    parameters = _mined_parameters(docstrings)
    summaries = _summaries(docstrings)
    frequency = Counter(
        word for docstring in docstrings for word in _WORD.findall(docstring.text.lower())
    )
    wanted = {word.lower() for word in words}
    others = (word for word, _ in frequency.most_common() if word not in wanted and word in glosses)
    wanted.update(islice(others, extra_words))
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for word in sorted(wanted, key=lambda w: (-frequency[w], w)):
        senses = glosses.get(word) or glosses.get(re.sub(r"(es|s|ed|ing)$", "", word)) or []
        ranked = sorted(senses, key=lambda gloss: -_suitability(gloss, word, frequency))
        candidates = [
            *_repeated(parameters[word], _MIN_MINED),
            *_repeated(summaries[word], _MIN_SHARED),
            *(gloss.definition for gloss in ranked),
            *_repeated(summaries[word], 1),
        ]
        for candidate in candidates:
            text = tidy(candidate)
            if text and text not in taken:
                taken.add(text)
                chosen[word] = text
                break
    return chosen


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
