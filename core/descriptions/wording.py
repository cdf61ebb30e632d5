"""A pattern in one line of text, and such a line in terms again."""

import re
from collections.abc import Sequence

from core.descriptions.patterns import Pattern
from core.descriptions.token_text import folded, quoted

BOOSTS = "; boosts "
"""What stands between the finding and the boosted tokens."""
_BOOSTED = 3
_OURS = re.compile(r"^(?:fires (?:on|after|before)|near|mixed:) ")
_QUOTED = r"""("[^"]*"|'[^']*')"""
_SUCH_AS = re.compile(r"^fires on ([\w ]+?) such as .*")
_PART = re.compile(rf"""\bwords (starting|ending) {_QUOTED}|{_QUOTED} inside words""")
_BESIDE = re.compile(rf"""\b(after|before) {_QUOTED}""")
_NEXT_CLAUSE = re.compile(r"""; (?=(?:after|before) ["'])""")
_ALONE = re.compile(_QUOTED)
_AFFIXES = {"starting": "{}…", "ending": "…{}", "inside": "…{}…"}


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


def terms_of(text: str) -> list[str] | None:
    """What a line of this module says of a latent, term by term; None for any other text.

    Each term once, in small letters: the words that the peaks are on, “).” for signs, `…ing` for an
    ending, `numbers` for a class and for every number, `after def` for what stands beside the
    peaks. Boosted tokens are left out.
    """
    if not _OURS.match(text):
        return None
    terms: list[str] = []
    for clause in _NEXT_CLAUSE.split(text.split(BOOSTS)[0]):
        kind = _SUCH_AS.match(clause)
        if kind:
            terms.append(kind[1])
            continue
        for end, part, piece in _PART.findall(clause):
            terms.append(_AFFIXES[end or "inside"].format(_bare(part or piece)))
        rest = _PART.sub(" ", clause)
        terms += [f"{side} {_bare(word)}" for side, word in _BESIDE.findall(rest)]
        words = map(_bare, _ALONE.findall(_BESIDE.sub(" ", rest)))
        terms += ["numbers" if word.isnumeric() else word for word in words]
    return list(dict.fromkeys(term for term in terms if term))


def _bare(quoted_text: str) -> str:
    text = folded(quoted_text[1:-1])
    return text if any(map(str.isalpha, text)) or text.isnumeric() else f"“{text}”"


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
