"""The one place where an answer's text becomes an explanation, predictions or texts.

What is not in the form that was asked for is an error, never a guess: no list of phrases would know
every refusal in every language, but a refusal is seldom in the form.
"""

import re
import unicodedata
from typing import Any

from core.autointerp.json_text import NOTHING, objects_in, values_of, whole_json, without_fence
from core.autointerp.markdown import ITEM, says_more, sentence, unmarked, unwrapped
from core.llm.answer import shortened

PARSER_VERSION = 2
"""Raised whenever a text is read otherwise than before: kept answers are then read anew."""

_SUBJECT = r"(?:(?:this|the)\s+(?:neuron|unit|latent|feature)|it)"
_MARKER = re.compile(
    rf"(?:^|(?<=[.!?:;)\n\"'“‘«])|(?<=[>#*•\-]\s))\s*(?:{_SUBJECT}\s+(?:\w+ly\s+)?)?"
    r"activates\s+on\b[ \t]*:?",
    re.I,
)
_OTHER_WORDS = re.compile(
    rf"^\s*{_SUBJECT}\s+(?:is\s+)?(?:\w+ly\s+)?(?:activates?|active|fires?|responds?)\s+"
    r"(?:\w+ly\s+)?(?:on|for|to|in response to)\b:?",
    re.I,
)
_LABEL = re.compile(
    r"^[\s>#*_\-\d.)]*(?:(?:final|my|the|short)\s+)?explanation[ \t]*[*_]*[ \t]*"
    r"(?::|：|=|–|—|-[ \t])[ \t*_]*|\A\s*(?:the )?answer\s*[:：]",
    re.I | re.M,
)
_THOUGHTFUL = re.compile(r"EXPLANATION[ \t]*[*_]*[ \t]*[:：][ \t*_]*")
_NO_PATTERN = ("none", "no pattern", "null", "n/a")
_DECLINES = re.compile(
    r"(?:i['’]m sorry|i am sorry|sorry, (?:but )?i\b|i can(?:no|['’])t\b|i am unable|i['’]m unable"
    r"|as an ai\b)",
    re.I,
)
_LIST_LABEL = re.compile(r"^(?:answer|numbers|examples|texts)\s*:\s*", re.IGNORECASE)
_LIST = re.compile(r"[0-9]{1,6}(?:\s*(?:,\s*and\b|,|;|\n|\band\b|&)\s*[0-9]{1,6})*")
_TEXT_LINE = re.compile(r"^[\s\d.)*_\-]*(YES|NO)[*_]*\s*[:：][*_]*\s*(.+?)\s*$", re.IGNORECASE)
_MOST_CHARACTERS = 500
_SIGNS = re.compile(r"[\"'`“‘«「][^\s\"'`“”‘’«»「」]{1,20}[\"'`”’»」]")


class UnreadableAnswer(ValueError):
    """The answer is not in the form that was asked for."""


class NoPattern(UnreadableAnswer):
    """The answer says, in the form that was asked for, that there is nothing to explain."""


def parse_explanation(answer: str) -> str:
    """What follows "activates on", without marks of formatting and the full stop.

    Read are a sentence that begins with "This neuron activates on", a text after "Explanation:",
    and a JSON object with the key `explanation`, also in a fence or amid prose.

    Raises:
        NoPattern: the answer is NONE, or null.
        UnreadableAnswer: it is in no such form, or in several that differ.
    """
    found = _by_key(answer, "explanation")
    if found is not NOTHING:
        return _of_json(found, answer)
    text = unmarked(without_fence(answer))
    if text[:1] in ("{", "["):
        raise UnreadableAnswer(
            f"The answer {shortened(answer)} is no JSON with the key explanation."
        )
    if _says_none(text):
        raise _no_pattern()
    candidates = _candidates(text, answer)
    if len(candidates) > 1:
        raise UnreadableAnswer(f"The answer {shortened(answer)} holds several explanations.")
    if not candidates:
        raise UnreadableAnswer(
            f"The answer {shortened(answer)} holds no explanation: nothing in it begins with "
            "“This neuron activates on”."
        )
    return _explaining(candidates.pop(), answer)


def parse_thoughtful(answer: str) -> str:
    """The explanation in the last line marked "EXPLANATION:", or after a reminder in the answer.

    Raises:
        NoPattern: as `parse_explanation`.
        UnreadableAnswer: thoughts alone, such as those of an answer that was cut.
    """
    if _by_key(answer, "explanation") is not NOTHING:
        return parse_explanation(answer)
    marks = list(_THOUGHTFUL.finditer(answer))
    begins = unmarked(answer).strip().startswith("This neuron activates on") or _says_none(answer)
    if not marks and not begins:
        raise UnreadableAnswer(
            f"The answer {shortened(answer)} holds thoughts, but no explanation."
        )
    return parse_explanation(f"EXPLANATION: {answer[marks[-1].end() :]}" if marks else answer)


def parse_predictions(answer: str, *, n_examples: int | None = None) -> list[int]:
    """Numbers of a list such as `1, 4`, `1 and 4.` or `[1, 4]`; `None` gives none.

    A JSON object with the key `numbers` counts as well, also in a fence or amid prose.

    Args:
        answer: of the chat model.
        n_examples: numbers beyond it, or below 1, are errors.

    Raises:
        UnreadableAnswer: anything else, such as a number twice, a range, numbers in words, or a
            list inside a sentence.
    """
    found = _by_key(answer, "numbers")
    if found is NOTHING:
        whole = whole_json(answer)
        found = whole if isinstance(whole, list) else NOTHING
    if isinstance(found, str):
        answer, found = found, NOTHING
    numbers = _listed(answer) if found is NOTHING else _of_json_list(found, answer)
    twice = [n for n in numbers if numbers.count(n) > 1]
    if twice:
        raise UnreadableAnswer(f"{shortened(answer)} names example {twice[0]} twice.")
    wrong = [n for n in numbers if n < 1 or (n_examples is not None and n > n_examples)]
    if wrong:
        raise UnreadableAnswer(f"{shortened(answer)} names example {wrong[0]}, which there is not.")
    return numbers


def parse_texts(answer: str) -> tuple[list[str], list[str]]:
    """(texts after "YES:", texts after "NO:"), each once; a text is at most 500 characters.

    A JSON object with lists `yes` and `no` counts as well.

    Raises:
        UnreadableAnswer: none of one of the two kinds, or the same text as both.
    """
    found: dict[str, list[str]] = {"YES": [], "NO": []}
    for kind, texts in found.items():
        listed = _by_key(answer, kind.casefold())
        if isinstance(listed, list):
            texts += [_short(entry) for entry in listed if isinstance(entry, str) and _tells(entry)]
    if not any(found.values()):
        for line in answer.splitlines():
            match = _TEXT_LINE.match(line)
            if match and _tells(match[2]):
                found[match[1].upper()].append(_short(match[2]))
    yes, no = (list(dict.fromkeys(found[kind])) for kind in ("YES", "NO"))
    if not yes or not no:
        raise UnreadableAnswer(f"The answer {shortened(answer)} does not hold texts of both kinds.")
    both = {*yes} & {*no}
    if both:
        raise UnreadableAnswer(f"The text {shortened(both.pop())} is both YES and NO.")
    return yes, no


def _by_key(answer: str, key: str) -> Any:
    """The value of a key in the answer's JSON; `NOTHING` where it has none.

    Raises UnreadableAnswer for several that differ.
    """
    values = [value for mapping in objects_in(answer) for value in values_of(mapping, key)]
    if any(value != values[0] for value in values):
        raise UnreadableAnswer(f"The answer {shortened(answer)} gives {key} several times.")
    return values[0] if values else NOTHING


def _of_json(value: Any, answer: str) -> str:
    if value is None:
        raise _no_pattern()
    if not isinstance(value, str):
        raise UnreadableAnswer(f"The explanation in {shortened(answer)} is not text.")
    return _explaining(_one(unmarked(value), answer), answer)


def _candidates(text: str, answer: str) -> set[str]:
    """What follows the markers, those after a label before all others; else what follows labels."""
    labels, markers = list(_LABEL.finditer(text)), list(_MARKER.finditer(text))
    ends = [*(label.start() for label in labels[1:]), len(text)]
    parts = [text[label.end() : end] for label, end in zip(labels, ends, strict=False)]
    if not markers:
        found = {_one(part, answer) for part in parts}
    elif not labels:
        found = {_after(text, marker) for marker in markers}
    else:
        labelled = [part for part in parts if _MARKER.search(part)]
        found = {_after(part, match) for part in labelled for match in _MARKER.finditer(part)}
        # "This neuron activates on …", and then an "Explanation:" why.
        found |= {"NONE" for part in parts if _says_none(part)}
        if not labelled:
            found |= {_after(text, marker) for marker in markers}
    return {candidate for candidate in found if candidate}


def _one(text: str, answer: str) -> str:
    """The explanation that a text is, with or without "This neuron activates on" before it."""
    text = _paragraph(text)
    while label := _LABEL.match(text):
        text = text[label.end() :]
    found = _MARKER.match(text) or _MARKER.match(text, 1)
    if found:
        return _after(text, found)
    other = _OTHER_WORDS.match(text)
    if other:
        return sentence(text[other.end() :])
    # It speaks of the neuron instead of saying what it activates on.
    if re.search(r"\bactivates\s+on\b", text, re.I) or _DECLINES.match(text):
        raise UnreadableAnswer(f"The model declined: {shortened(answer)}.")
    inside = unwrapped(text)
    return sentence(inside if _tells(inside) else text)


def _after(text: str, marker: re.Match[str]) -> str:
    """What follows a marker, to the end of its paragraph, or of the quotation that it is in."""
    rest = text[marker.end() :]
    before = text[marker.start() - 1] if marker.start() else ""
    closing = {'"': '"', "“": "”", "«": "»", "‘": "’", "'": "'"}.get(before)
    if closing:
        line = rest.partition("\n")[0]
        rest = line[: line.rfind(closing)] if closing in line else line
    return sentence(_paragraph(rest))


def _paragraph(text: str) -> str:
    """The first paragraph on one line; a list's items one after the other.

    A line that ends a sentence ends it too, and so does one that begins with another label.
    """
    lines: list[str] = []
    for line in text.strip().splitlines():
        if lines and (not line.strip() or says_more(line, lines[-1])):
            break
        lines.append(line)
    items = [line for line in lines if ITEM.match(line)]
    if len(items) < 2:
        # A dash alone may be what the sentence is about.
        items = []
    whole = " ".join(line.strip() for line in lines if line not in items)
    items = [ITEM.sub("", line).strip() for line in items]
    return "; ".join(part for part in (whole.strip(), *items) if part).replace(":; ", ": ")


def _explaining(text: str, answer: str) -> str:
    """The explanation, if it is one. Raises as `parse_explanation`."""
    if _says_none(text):
        raise _no_pattern()
    # Signs in quotation marks are what the explanation is about.
    if not _tells(text) and not _SIGNS.fullmatch(text):
        raise UnreadableAnswer(f"The answer {shortened(answer)} holds no explanation.")
    return text


def _no_pattern() -> NoPattern:
    return NoPattern("The explainer found no pattern in the examples.")


def _says_none(text: str) -> bool:
    return text.strip().strip("\"'`*_.“”‘’ ").casefold() in _NO_PATTERN


def _tells(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _short(text: str) -> str:
    short = text.strip()[:_MOST_CHARACTERS].strip()
    return unwrapped(short) if short[:1] == '"' else short


def _listed(answer: str) -> list[int]:
    text = unicodedata.normalize("NFKC", without_fence(answer)).strip().strip("`*\"'").strip()
    text = _LIST_LABEL.sub("", text).strip("*").rstrip(".,").strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1].strip() or "None"
    text = text.strip("\"'").rstrip(".").strip()
    if text.casefold() == "none":
        return []
    if not _LIST.fullmatch(text):
        raise UnreadableAnswer(f"{shortened(answer)} is neither a list of numbers nor None.")
    return [int(number) for number in re.findall("[0-9]+", text)]


def _of_json_list(found: Any, answer: str) -> list[int]:
    numbers = found if isinstance(found, list) else None
    if numbers is not None:
        digits = [str(number) if type(number) in (int, str) else "" for number in numbers]
        if all(text.isascii() and text.strip().isdigit() and len(text) < 7 for text in digits):
            return [int(text) for text in digits]
    raise UnreadableAnswer(f"{shortened(answer)} is neither a list of numbers nor None.")
