"""What a chat model's answer says; what cannot be read is an error, never a guess."""

import re
import unicodedata

_LABEL = re.compile(r"^(?:answer|numbers|examples|texts)\s*:\s*", re.IGNORECASE)
_LIST = re.compile(r"[0-9]+(?:\s*(?:,\s*and\b|,|;|\n|\band\b|&)\s*[0-9]+)*")
_TEXT_LINE = re.compile(r"^[\s\d.)*_\-]*(YES|NO)[*_]*\s*:[*_]*\s*(.+?)\s*$", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^(?:i['’]m sorry|i am sorry|sorry,|i can(?:no|['’])t\b|i am unable|i['’]m unable|as an ai\b)",
    re.IGNORECASE,
)


class UnreadableAnswer(ValueError):
    """The answer is not in the form that was asked for."""


def parse_explanation(answer: str) -> str:
    """What follows "activates on", without the full stop.

    Raises:
        UnreadableAnswer: nothing is left, or the model declines.
    """
    text = " ".join(answer.split("activates on")[-1].split()).rstrip(".").strip()
    if not any(character.isalnum() for character in text):
        raise UnreadableAnswer(f"The answer {answer!r} holds no explanation.")
    if _REFUSAL.match(answer.strip()):
        raise UnreadableAnswer(f"The model declined: {answer!r}.")
    return text


def parse_thoughtful(answer: str) -> str:
    """The explanation in the last line marked "EXPLANATION:", or after a reminder in the answer.

    Raises:
        UnreadableAnswer: thoughts alone, such as those of an answer that was cut.
    """
    _, marker, last = answer.rpartition("EXPLANATION:")
    if not marker and not answer.strip().startswith("This neuron activates on"):
        raise UnreadableAnswer(f"The answer {answer!r} holds thoughts, but no explanation.")
    return parse_explanation(last if marker else answer)


def parse_predictions(answer: str, *, n_examples: int | None = None) -> list[int]:
    """Numbers of a list such as `1, 4`, `1 and 4.` or `[1, 4]`, each once; `None` gives none.

    Args:
        answer: of the chat model.
        n_examples: numbers beyond it, or below 1, are errors.

    Raises:
        UnreadableAnswer: anything else, such as a list inside a sentence.
    """
    text = unicodedata.normalize("NFKC", answer).strip().strip("`*\"'").strip()
    text = _LABEL.sub("", text).rstrip(".,").strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1].strip() or "None"
    text = text.strip("\"'").rstrip(".").strip()
    if text.casefold() == "none":
        return []
    if not _LIST.fullmatch(text):
        raise UnreadableAnswer(f"{answer!r} is neither a list of numbers nor None.")
    numbers = list(dict.fromkeys(int(number) for number in re.findall("[0-9]+", text)))
    wrong = [n for n in numbers if n < 1 or (n_examples is not None and n > n_examples)]
    if wrong:
        raise UnreadableAnswer(f"{answer!r} names example {wrong[0]}, which there is not.")
    return numbers


def parse_texts(answer: str) -> tuple[list[str], list[str]]:
    """(texts after "YES:", texts after "NO:"), each once; a text is at most 500 characters.

    Raises:
        UnreadableAnswer: none of one of the two kinds.
    """
    found: dict[str, list[str]] = {"YES": [], "NO": []}
    for line in answer.splitlines():
        match = _TEXT_LINE.match(line)
        if match and any(character.isalnum() for character in match[2]):
            found[match[1].upper()].append(match[2][:500].strip().strip('"'))
    yes, no = (list(dict.fromkeys(found[kind])) for kind in ("YES", "NO"))
    if not yes or not no:
        raise UnreadableAnswer(f"The answer {answer!r} does not hold texts of both kinds.")
    return yes, no
