"""The demo's corpus: a fixed random sample of the installed packages' docstrings."""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from core.corpus.documents import Corpus, Document, digest_of
from core.corpus.parsed import read_docstrings
from core.docs_corpus import PACKAGES, package_folder, python_files

DOCS_SAMPLE_TOKENS = 1_200_000
"""Tokens of the sample, in the demo's tokenizer."""
_VERSION = 1
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_FILES_AT_ONCE = 80
_MIN_CHARS = 80


def docs_sample(packages: Sequence[str] = PACKAGES, *, seed: int = 0) -> Corpus:
    """Docstrings of `packages` in a seeded random order of their files.

    Only as many files are parsed as the tokens asked for need (about a fifth of them for the
    default), which is why files are drawn rather than docstrings. Docstrings of one file stay
    together in chunks of 80 files that are shuffled; near-duplicates within a chunk are dropped.
    The digest changes with the packages' versions. Raises ValueError when one is not installed.
    """
    for package in packages:
        package_folder(package)
    versions = [(package, _version(package)) for package in packages]
    return Corpus(
        name="Documentation of the installed packages",
        digest=digest_of("docs-sample", _VERSION, versions, seed),
        documents=lambda: _documents(packages, seed),
        max_tokens=DOCS_SAMPLE_TOKENS,
    )


def _documents(packages: Sequence[str], seed: int) -> Iterator[Document]:
    files = [
        (package, path) for package in packages for path in python_files(package_folder(package))
    ]
    random.Random(seed).shuffle(files)
    seen: set[str] = set()
    for start in range(0, len(files), _FILES_AT_ONCE):
        some = files[start : start + _FILES_AT_ONCE]
        for docstring in read_docstrings(some, min_chars=_MIN_CHARS, seen=seen, seed=seed + start):
            yield Document(f"{docstring.package}: {docstring.name}", docstring.text)


@lru_cache
def _version(package: str) -> str:
    try:
        return version(_DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        return "unknown"
