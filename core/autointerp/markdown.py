"""What a model wrote, without what dresses it up: marks of Markdown, quotation marks around it."""

import re

_BOLD = re.compile(
    r"(?<![\w*'\"`])\*\*(?=[^\s*])(.{1,400}?)(?<=[^\s*])\*\*(?![\w*'\"`])", re.DOTALL
)
_ITALIC = re.compile(
    r"(?<![\w*'\"`])\*(?=[^\s*])([^*]{1,400}?)(?<=[^\s*])\*(?![\w*'\"`])", re.DOTALL
)
_CODE = re.compile(r"(?<!`)`(?=[^`\s])([^`\n]+?)`(?!`)")
_PAIRS = {
    '"': '"',
    "“": "”",
    "«": "»",
    "‘": "’",
    "'": "'",
    "「": "」",
    "„": "“",
    "*": "*",
    "_": "_",
}

ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
"""How an item of a list begins."""
_ENDS = re.compile(r"[.!?。！？][\"'”’»)*_]*\s*$")
_FIELD = re.compile(r"^[\s>#*_]*[A-Za-z][\w ]{0,24}[*_]*[:：]\s")


def unmarked(text: str) -> str:
    """The text without marks of Markdown.

    They are taken away in pairs, and where they are marks: `**` in quotation marks, or alone, is
    what a sentence is about. Code becomes a quotation.
    """
    return _CODE.sub(_quoted, _ITALIC.sub(r"\1", _BOLD.sub(r"\1", text)))


def unwrapped(text: str) -> str:
    """The text without the quotation marks, or marks of Markdown, that stand around all of it."""
    text = text.strip()
    closing = _PAIRS.get(text[:1])
    inside = text[1:-1]
    if len(text) > 2 and closing == text[-1] and text[0] not in inside and closing not in inside:
        return inside.strip()
    return text


def sentence(text: str) -> str:
    """The text on one line, without a full stop, or a quotation mark that closes nothing."""
    line, previous = " ".join(text.split()), None
    while line != previous:
        previous = line
        line = _closed(line.rstrip(".。").strip())
    return line


def says_more(line: str, before: str) -> bool:
    """Whether a line goes on with something else than the one before, such as how sure one is."""
    if ITEM.match(line) or ITEM.match(before):
        return False
    ended = bool(_ENDS.search(before)) and not line.strip()[0].islower()
    return ended or bool(_FIELD.match(line))


def _quoted(match: re.Match[str]) -> str:
    mark = '"' if "'" in match[1] else "'"
    return f"{mark}{match[1]}{mark}"


def _closed(text: str) -> str:
    for mark, opening in (('"', '"'), ("”", "“"), ("»", "«")):
        odd = text.count(mark) % 2 if opening == mark else text.count(mark) > text.count(opening)
        if text.endswith(mark) and odd and len(text) > 1:
            return text[:-1].strip()
    return text
