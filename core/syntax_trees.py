"""Python's parser, used by one thread at a time.

Python 3.11 counts the depth of the syntax trees it builds for all threads together (gh-106905 and
after): of two threads that parse at once, one fails with "SystemError: AST constructor recursion
depth mismatch", whatever they parse. Numpy reads the header of every array with `ast.literal_eval`,
so that a stored result could not be opened while documentation was being parsed. Our own parsing
takes turns here; what a library parses meanwhile can still disturb it, so it is tried again.
"""

import ast
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_PARSING = threading.RLock()
_ATTEMPTS = 20


def parse_alone(work: Callable[[], T]) -> T:
    """What `work` returns, while no other thread parses through this module.

    `work` is called again where a library's parsing disturbed it, so it must not use up its input.
    Its own errors pass.
    """
    with _PARSING:
        for _ in range(_ATTEMPTS - 1):
            try:
                return work()
            except SystemError as error:
                if "recursion depth mismatch" not in str(error):
                    raise
        return work()


def parse_module(source: bytes) -> ast.Module:
    """`ast.parse`."""
    return parse_alone(lambda: ast.parse(source))


def parse_literal(text: str) -> Any:
    """`ast.literal_eval`."""
    return parse_alone(lambda: ast.literal_eval(text))
