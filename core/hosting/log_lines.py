"""The log as lines of JSON, with the request and the person, and without what anybody typed.

A message is the sentence of the source, not what was filled into it: only numbers and references
are. Of an exception the kind and the places in the source are told, never its words, which may
quote a text, a key or an address.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO

_REFERENCE = re.compile(r"[0-9a-f]{8}")
_MOST_FRAMES = 12
_TEMPLATE = re.compile(r"%(?:\(\w+\))?[-#0 +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[a-zA-Z]|%%")


@dataclass(frozen=True)
class Origin:
    """Where work comes from."""

    request: str = ""
    """One run of a page, and the jobs that it started."""
    who: str = ""
    """Person, as in the audit."""


_ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - it is frozen


@contextmanager
def coming_from(origin: Origin) -> Iterator[None]:
    """What this thread logs until the block ends comes from there."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def origin() -> Origin:
    """Where the work of this thread comes from."""
    return _ORIGIN.get()


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "from": record.name,
            "line": record.lineno,
            "message": _message(record),
        }
        came = origin()
        line |= {name: value for name, value in vars(came).items() if value}
        line |= getattr(record, "facts", {})
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None:
            line["error"] = _kinds(error)
            line["where"] = _frames(error)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(stream: TextIO | None = None) -> logging.Handler:
    """Have what reaches the root logger of this process written so."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    for name in ("core", "pages"):
        logging.getLogger(name).setLevel(logging.INFO)
    return handler


def send_to_root(logger: logging.Logger) -> None:
    """Have a logger write nothing by itself."""
    for own in list(logger.handlers):
        logger.removeHandler(own)
    logger.propagate = True


def facts(**known: str | float | None) -> dict[str, Any]:
    """What a line tells besides its message, for `extra=`: names of pages and kinds, and numbers,
    never anything that somebody typed."""
    return {"facts": known}


def _message(record: logging.LogRecord) -> str:
    """The sentence of the source, with numbers and references filled in."""
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    args = record.args if isinstance(record.args, tuple) else ()
    if not args:
        # Libraries may have filled it in already.
        return record.msg if record.name.startswith(("core.", "pages.")) else "…"
    given = iter(args)

    def fill(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = next(given, None)
        if isinstance(value, bool | int | float):
            return match[0] % value if match[0][-1] in "dfgeEGx" else str(value)
        return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else "…"

    return _TEMPLATE.sub(fill, record.msg)


def _kinds(error: BaseException) -> str:
    """Kinds of the error and of what caused it."""
    kinds: list[str] = []
    at: BaseException | None = error
    while at is not None and len(kinds) < 5:
        kinds.append(type(at).__name__)
        at = at.__cause__ or at.__context__
    return " from ".join(kinds)


def _frames(error: BaseException) -> list[str]:
    """The innermost places in the source, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
