"""Docstrings read in a process of their own: Python's parser holds up all its threads.

A large file is parsed for up to a second, and a page that is drawn meanwhile hands the interpreter
on hundreds of times (at each look at a file, at each element sent): with two long texts being read,
a page took twenty times as long. Reading a stored array waits for the parser, too
(`core.syntax_trees`).
"""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

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
    try:
        every = _reader().run(docstrings_of_files, files, min_chars=min_chars)
    except WorkerDied as ended:
        log.warning("Documentation is read in the app itself: %s", ended)
        every = docstrings_of_files(files, min_chars=min_chars)
    found = list(_unseen(every, seen))
    try:
        return list(_reader().run(drop_near_duplicates, found, seed=seed))
    except WorkerDied as ended:
        log.warning("Documentation is compared in the app itself: %s", ended)
        return drop_near_duplicates(found, seed=seed)


@cache
def _reader() -> WorkerProcess:
    """Started at the first text; it ends with this process."""
    return WorkerProcess(warm=("core.docs_corpus",))


def docstrings_of_files(files: Files, *, min_chars: int) -> list[Docstring]:
    """Docstrings of at least so many characters, file by file."""
    return [
        Docstring(package, name, text)
        for package, path in files
        for name, text in docstrings_of(path)
        if len(text) >= min_chars
    ]


def _unseen(docstrings: Iterable[Docstring], seen: set[str]) -> Iterable[Docstring]:
    for docstring in docstrings:
        if docstring.text not in seen:
            seen.add(docstring.text)
            yield docstring
