"""Text that every machine with the explorer already has: the docstrings of the installed stack.

The packages that the explorer depends on carry tens of megabytes of English about arrays, models,
statistics and graphs. Sources are parsed with `ast`; nothing is imported. The demo model is trained
on this text and the demo's dashboards are computed on it, so no corpus has to be shipped.
"""

import ast
import importlib.util
import random
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from core.syntax_trees import parse_module

PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "torch", "statsmodels", "networkx")
"""Packages whose docstrings make the demo corpus; all are dependencies of the explorer."""

_SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "__pycache__", "site-packages"}
_SHINGLE_WORDS = 6


@dataclass(frozen=True)
class Docstring:
    """One documented object."""

    package: str
    """Top-level package, e.g. `scipy`."""
    name: str
    """Name of the function or class; the file's stem for a module docstring."""
    text: str
    """The docstring, dedented."""


@lru_cache
def package_folder(package: str) -> Path:
    """Folder of an installed package (`stdlib` for Python's own library), without importing it.

    Raises:
        ValueError: when the package is not installed.
    """
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"Package {package!r} is not installed: run `pip install {package}`.")
    return Path(spec.submodule_search_locations[0])


def harvest(packages: Sequence[str] = PACKAGES, *, min_chars: int = 80) -> list[Docstring]:
    """All different docstrings of `packages`, in a fixed order (by path, then by line).

    Args:
        packages: importable top-level names, or `stdlib`.
        min_chars: shorter docstrings are left out.

    Raises:
        ValueError: when a package is not installed.
    """
    seen: set[str] = set()
    found = []
    for package in packages:
        for path in python_files(package_folder(package)):
            for name, text in docstrings_of(path):
                if len(text) >= min_chars and text not in seen:
                    seen.add(text)
                    found.append(Docstring(package, name, text))
    return found


def drop_near_duplicates(
    docstrings: Sequence[Docstring],
    *,
    max_overlap: float = 0.4,
    against: Iterable[Docstring] = (),
    seed: int = 0,
) -> list[Docstring]:
    """Docstrings in a seeded random order, without those that mostly repeat earlier ones.

    A docstring is dropped when more than `max_overlap` of its 6-word shingles stand in one kept
    before it, or in `against`. Scientific packages repeat whole parameter sections; a model trained
    on the repeats learns to copy them instead of the language (trigram 2.97 against 3.25 nats).
    """
    known: set[int] = set()
    for docstring in against:
        known.update(_shingles(docstring.text))
    order = list(range(len(docstrings)))
    random.Random(seed).shuffle(order)
    kept = []
    for position in order:
        shingles = _shingles(docstrings[position].text)
        repeated = sum(shingle in known for shingle in shingles)
        if repeated <= max_overlap * len(shingles):
            known.update(shingles)
            kept.append(docstrings[position])
    return kept


def python_files(folder: Path) -> Iterator[Path]:
    """Modules under `folder` in a fixed order, tests left out."""
    for path in sorted(folder.rglob("*.py")):
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(folder).parts[:-1]):
            yield path


def docstrings_of(path: Path) -> Iterator[tuple[str, str]]:
    """(name, docstring) of a module and of everything in it; nothing if it does not parse."""
    source = path.read_bytes()
    try:
        tree = parse_module(source)
    except (SyntaxError, ValueError):  # templates and deliberately broken files ship too
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", path.stem), text


def _shingles(text: str) -> list[int]:
    """64-bit hashes of all runs of six words; the same on every machine and in every run."""
    words = text.split()
    hashes = np.array(
        [int.from_bytes(blake2b(w.encode(), digest_size=8).digest(), "little") for w in words],
        dtype=np.uint64,
    )
    n = max(1, len(words) - _SHINGLE_WORDS + 1)
    mixed = np.zeros(n, dtype=np.uint64)
    for offset in range(min(_SHINGLE_WORDS, len(words))):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + hashes[offset : offset + n]
    return mixed.tolist()
