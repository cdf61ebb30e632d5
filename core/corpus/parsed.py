"""Docstrings read in a process of their own: Python's parser holds up all its threads.

A large file is parsed for up to a second, and a page that is drawn meanwhile hands the interpreter
on hundreds of times (at each look at a file, at each element sent): with two long texts being read,
a page took twenty times as long. Reading a stored array waits for the parser, too
(`core.syntax_trees`).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from core.docs_corpus import Docstring, docstrings_of, drop_near_duplicates
from core.worker import WorkerDied, WorkerProcess

log = logging.getLogger(__name__)
Files = Sequence[tuple[str, Path]]
"""`(package, file)` of each."""


def read_docstrings(files: Files, *, min_chars: int, seen: set[str], seed: int) -> list[Docstring]:
    """Docstrings of at least so many characters, without near-duplicates, in a seeded random order.

    Texts in `seen` are left out, and what is found is added to it. Where the process is killed,
    the files are read here.
    """
    every = _elsewhere(docstrings_of_files, files, min_chars=min_chars)
    return _elsewhere(drop_near_duplicates, list(_unseen(every, seen)), seed=seed)


def _elsewhere(work: Callable[..., list[Docstring]], *args: Any, **options: Any) -> list[Docstring]:
    """What `work` returns, called in the process of its own, or here where that is killed."""
    try:
        return list(_reader().run(work, *args, **options))
    except WorkerDied as ended:
        log.warning("Documentation is read in the app itself: %s", ended)
        return work(*args, **options)


@cache
def _reader() -> WorkerProcess:
    """Started at the first text; it ends with this process."""
    return WorkerProcess(warm=("core.docs_corpus",))


def docstrings_of_files(files: Files, *, min_chars: int) -> list[Docstring]:
    """Docstrings of at least so many characters, file by file."""
    return [
        Docstring(package, name, text)
        for package, path in files
        for name, text in _parsed(path, path.stat().st_mtime_ns)
        if len(text) >= min_chars
    ]


@lru_cache(maxsize=4096)
def _parsed(path: Path, changed_ns: int) -> tuple[tuple[str, str], ...]:
    """A longer text begins with the same files as a shorter one."""
    return tuple(docstrings_of(path))


def _unseen(docstrings: Iterable[Docstring], seen: set[str]) -> Iterable[Docstring]:
    for docstring in docstrings:
        if docstring.text not in seen:
            seen.add(docstring.text)
            yield docstring
