"""JSON in what a model wrote: bare, in a fence, amid prose, or nearly JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any

from core.syntax_trees import parse_literal

_FENCE = re.compile(r"```(?:[A-Za-z][\w+-]*[ \t]*\n|json\b)?(.*?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_MOST_LITERAL = 20_000
_DEEPEST = 4
_MOST_MISSES = 50
NOTHING = object()
"""No JSON; None is a value."""


def without_fence(text: str) -> str:
    """What stands inside a fence that holds the whole text; else the text."""
    stripped = text.strip()
    found = _FENCE.fullmatch(stripped)
    return found[1].strip() if found else stripped


def whole_json(text: str) -> Any:
    """The object or list that the text is, or that its one fence holds; `NOTHING` otherwise."""
    fences = _FENCE.findall(text)
    for candidate in (without_fence(text), *(fences if len(fences) == 1 else ())):
        found = _loaded(candidate.strip())
        if isinstance(found, str):
            found = _loaded(found.strip())
        if isinstance(found, dict | list):
            return found
    return NOTHING


def objects_in(text: str) -> list[Any]:
    """The object or list that the text is, or else all objects that stand in it."""
    whole = whole_json(text)
    if whole is not NOTHING:
        return [whole]
    return list(_embedded(text))


def values_of(found: Any, key: str, depth: int = 0) -> Iterator[Any]:
    """All values of a key, whatever its case, in objects up to four deep."""
    if depth > _DEEPEST:
        return
    if isinstance(found, dict):
        for name, value in found.items():
            if str(name).strip().casefold() == key:
                yield value
            else:
                yield from values_of(value, key, depth + 1)
    elif isinstance(found, list):
        for value in found:
            yield from values_of(value, key, depth + 1)


def _embedded(text: str) -> Iterator[dict[str, Any]]:
    decoder, at, missed = json.JSONDecoder(strict=False), 0, 0
    # Braces that open nothing cost time: prose has few, and what has many is no answer.
    while missed < _MOST_MISSES and (at := text.find("{", at)) >= 0:
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at, missed = at + 1, missed + 1
            continue
        if isinstance(found, dict):
            yield found


def _loaded(text: str) -> Any:
    if text[:1] not in tuple('{["'):
        return NOTHING
    for candidate in (text, _TRAILING_COMMA.sub(r"\1", text)):
        try:
            return json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
    if text[:1] == '"' or len(text) > _MOST_LITERAL:
        return NOTHING
    try:
        # Python's own notation, with single quotes.
        return parse_literal(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return NOTHING
