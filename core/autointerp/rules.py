"""What an explanation says literally: words to look for, without a language model.

Explanations of the offline explainer come with the pattern they were written from. Of any other
text, a person's or a model's, the words in quotation marks count, else its telling words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.examples import Example
from core.descriptions.patterns import Pattern
from core.descriptions.token_text import folded, is_wordy, kind_of, opens_word, starts_word

_QUOTED = re.compile(r'"([^"]+)"|(?<!\w)\'([^\']+)\'(?!\w)|“([^”]+)”|‘([^’]+)’|`([^`]+)`')
_CLASSES = {
    "number": "numbers",
    "digit": "numbers",
    "punctuation": "punctuation",
    "camelcase": "CamelCase names",
    "capitals": "words in capitals",
    "uppercase": "words in capitals",
    "underscore": "names with underscores",
    "newline": "line breaks",
    "line break": "line breaks",
}
_SAYING_LITTLE = (
    "a an the and or of in on at to for from by with as is are be was were it its this that these"
    " those such like when where which who what any some all other about related relating referring"
    " reference references mention mentions word words token tokens term terms phrase phrases text"
    " texts name names noun nouns verb verbs adjective adjectives context contexts containing"
    " contain contains used use uses using especially often within inside after before following"
    " followed near start starting end ending beginning things thing something kind kinds type"
    " types specific particular various including example examples not only fires fire neuron unit"
    " latent activates activate passages passage sentence sentences substring letters"
)
_GENERIC = frozenset(_SAYING_LITTLE.split())


@dataclass(frozen=True)
class TextRule:
    """What a text asks for; a word that fits any part of it fits the rule."""

    words: tuple[str, ...] = ()
    """Whole words, folded."""
    beginnings: tuple[str, ...] = ()
    """How words begin."""
    endings: tuple[str, ...] = ()
    """How words end."""
    pieces: tuple[str, ...] = ()
    """What stands anywhere in a word."""
    phrases: tuple[str, ...] = ()
    """Several words in a row."""
    classes: tuple[str, ...] = ()
    """Classes of `core.descriptions.token_text.kind_of`."""

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing, so that no text can be judged by it."""
        return not any(vars(self).values())


Rule = Pattern | TextRule


def rule_from_text(text: str) -> TextRule:
    """What to look for, read from any explanation; empty where it names nothing."""
    parts: dict[str, list[str]] = {name: [] for name in TextRule.__annotations__}
    end = 0
    for match in _QUOTED.finditer(text):
        before = text[end : match.start()].casefold()
        after = text[match.end() : match.end() + 16].casefold()
        quote = next(group for group in match.groups() if group is not None)
        end = match.end()
        if len(pieces_of(quote)) > 1:
            parts["phrases"].append(quote)
        elif folded(quote):
            parts[_role(before, after)].append(folded(quote))
    named = text.casefold()
    parts["classes"] = [kind for word, kind in _CLASSES.items() if word in named]
    if not any(parts.values()):
        found = [word for word in re.findall(r"\w+", named) if word not in _GENERIC]
        parts["words"] = [word for word in found if len(word) > 1]
    return TextRule(**{name: tuple(dict.fromkeys(some)) for name, some in parts.items()})


def fitting_words(rule: Rule, words: Sequence[str]) -> list[bool]:
    """Which words fit the rule; of a phrase, its words; next to a neighbour, the word beside it."""
    if isinstance(rule, TextRule):
        fits = [_fits_text(rule, word) for word in words]
        for phrase in rule.phrases:
            for start, stop in _phrase_places(words, phrase):
                fits[start:stop] = [True] * (stop - start)
        return fits
    token = folded(rule.token)
    match rule.kind:
        case "word" | "words":
            wanted = {folded(word) for word in rule.words}
            return [folded(word) in wanted for word in words]
        case "beginning":
            return [folded(word).startswith(token) for word in words]
        case "ending":
            return [folded(word).endswith(token) for word in words]
        case "inside":
            return [token in folded(word) for word in words]
        case "class":
            return [kind_of(word) == rule.token for word in words]
        case "after" | "before":
            fits = [False] * len(words)
            for start, stop in _phrase_places(words, rule.token):
                beside = stop if rule.kind == "after" else start - 1
                # At the edge of the text, what stands beside is out of sight: the phrase counts.
                fits[min(max(beside, 0), len(words) - 1)] = True
            return fits
        case "topic":
            wanted = {folded(word) for word in rule.topic}
            return [folded(word) in wanted for word in words]
        case _:
            return [False] * len(words)


def matches(rule: Rule, example: Example) -> bool:
    """Whether a text holds a word that fits the rule; what says nothing fits no text."""
    return any(fitting_words(rule, words_of(example.str_toks)))


def marks_fit(rule: Rule, example: Example, marks: Sequence[bool]) -> bool:
    """Whether one of the marked tokens is in a word that fits the rule.

    The space before a word is no part of it where it is a token of its own. A topic is not in one
    word: there the text has to hold it, wherever the marks are.
    """
    if isinstance(rule, Pattern) and rule.kind == "topic":
        return matches(rule, example)
    groups = word_groups(example.str_toks)
    words = ["".join(example.str_toks[i] for i in group) for group in groups]
    fits = fitting_words(rule, [word.strip(" ") or word for word in words])
    return any(
        fit and any(marks[i] for i in group if example.str_toks[i] != " " or len(group) == 1)
        for fit, group in zip(fits, groups, strict=True)
    )


def words_of(str_toks: Sequence[str]) -> list[str]:
    """The words that tokens make up; what is no word stays a token."""
    groups = word_groups(str_toks)
    words = ["".join(str_toks[i] for i in group) for group in groups]
    return [word.strip(" ") or word for word in words]


def word_groups(str_toks: Sequence[str]) -> list[list[int]]:
    """Numbers of the tokens of each word."""
    groups: list[list[int]] = []
    before = ""
    for i, token in enumerate(str_toks):
        # A token without text has a part of the character before it.
        if i and (token == "" or (not starts_word(token) and opens_word(before))):
            groups[-1].append(i)
        else:
            groups.append([i])
        before = token or before
    return groups


def pieces_of(phrase: str) -> list[str]:
    """A phrase cut where words begin: "np." is "np" and "."."""
    pieces: list[str] = []
    for character in phrase:
        if pieces and is_wordy(character) and is_wordy(pieces[-1][-1:]):
            pieces[-1] += character
        else:
            pieces.append(character)
    return [piece for piece in pieces if piece.strip()] or pieces


def _role(before: str, after: str) -> str:
    last = before.rstrip()
    if re.search(r"(start|begin)\w*( with)?( the)?$", last) or "at the start" in after:
        return "beginnings"
    if re.search(r"end(s|ing)?( in| with)?( the)?$", last) or "at the end" in after:
        return "endings"
    if after.lstrip().startswith(("inside", "in longer", "within")) or last.endswith(
        ("substring", "letters", "containing")
    ):
        return "pieces"
    return "words"


def _fits_text(rule: TextRule, word: str) -> bool:
    text = folded(word)
    return (
        text in rule.words
        or text.startswith(rule.beginnings)
        or text.endswith(rule.endings)
        or any(piece in text for piece in rule.pieces)
        or kind_of(word) in rule.classes
    )


def _phrase_places(words: Sequence[str], phrase: str) -> list[tuple[int, int]]:
    """First word, and the one behind the last, wherever the phrase stands."""
    wanted = [folded(piece) for piece in pieces_of(phrase)]
    # A token of punctuation may hold several signs, so the text is cut as finely as the phrase.
    pieces = [(folded(piece), i) for i, word in enumerate(words) for piece in pieces_of(word)]
    n, text = len(wanted), [piece for piece, _ in pieces]
    return [
        (pieces[i][1], pieces[i + n - 1][1] + 1)
        for i in range(len(text) - n + 1)
        if n and text[i : i + n] == wanted
    ]
