"""A pattern in one line of text, and what such a line is about."""

import re
from collections.abc import Sequence

from core.descriptions.patterns import Pattern
from core.descriptions.token_text import folded, quoted

BOOSTS = "; boosts "
"""What stands between the finding and the boosted tokens."""
_BOOSTED = 3
_OURS = re.compile(r"^(?:fires (?:on|after|before)|near|mixed:) ")
_PHRASES = re.compile(
    r"""("[^"]*"|'[^']*')|\bfires\b|\bon\b|\bwords (?:starting|ending)\b|\binside words\b"""
    r"""|\bsuch as\b|\bafter\b|\bbefore\b|\bnear\b|\bmixed\b"""
)


def line_of_text(pattern: Pattern, boosted: Sequence[str] = (), *, max_chars: int = 100) -> str:
    """Such as `fires on "array", "arrays"; after "np."; boosts " of", " with"`; `""` for none.

    Clauses that do not fit into `max_chars` are left out, the less telling ones first.
    """
    if pattern.kind == "none":
        return ""
    line = _main_clause(pattern)
    clauses = []
    if pattern.kind != "after" and pattern.after:
        clauses.append(f"after {quoted(pattern.after)}")
    if pattern.kind != "before" and pattern.before:
        clauses.append(f"before {quoted(pattern.before)}")
    for clause in clauses:
        if len(line) + 2 + len(clause) <= max_chars:
            line = f"{line}; {clause}"
    different = {folded(text): quoted(text) for text in reversed(boosted)}
    pushed = list(reversed(different.values()))[:_BOOSTED]
    while pushed:
        clause = BOOSTS + ", ".join(pushed)
        if len(line) + len(clause) <= max_chars:
            return line + clause
        pushed.pop()
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"


def subject(text: str) -> str:
    """What a description is about: of lines of this module only the words that differ.

    Phrases such as `fires on` and the boosted tokens are left out; other texts stay as they are.
    """
    if not _OURS.match(text):
        return text
    finding = text.split(BOOSTS)[0]
    return _PHRASES.sub(lambda found: found[1] or " ", finding)


def _main_clause(pattern: Pattern) -> str:
    words = _listed(pattern.words)
    match pattern.kind:
        case "word" | "words":
            return f"fires on {words}"
        case "beginning":
            return f"fires on words starting {quoted(pattern.token)}: {words}"
        case "ending":
            return f"fires on words ending {quoted(pattern.token)}: {words}"
        case "inside":
            return f"fires on {quoted(pattern.token)} inside words: {words}"
        case "class":
            return f"fires on {pattern.token} such as {words}"
        case "after":
            return f"fires after {quoted(pattern.token)}, on {words}"
        case "before":
            return f"fires before {quoted(pattern.token)}, on {words}"
        case "topic":
            others = [word for word in pattern.words if word not in pattern.topic]
            rest = f", on {_listed(others)}" if others else ""
            return f"near {_listed(pattern.topic)}{rest}"
        case _:
            return f"mixed: {words}"


def _listed(words: Sequence[str]) -> str:
    different = {folded(word): quoted(word) for word in reversed(words)}
    return ", ".join(reversed(different.values()))
