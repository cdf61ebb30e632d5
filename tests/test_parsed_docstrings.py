"""Documentation is parsed in a process of its own, and here where that one is killed."""

from pathlib import Path

import pytest

from core.corpus import parsed
from core.docs_corpus import docstrings_of, drop_near_duplicates
from core.worker import WorkerDied, WorkerProcess


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str, Path]]:
    found = []
    for number in range(3):
        path = tmp_path / f"module{number}.py"
        words = " ".join(f"word{number}{i}" for i in range(12))
        path.write_text(
            f'"""What module {number} is about: {words}."""\n\n'
            'def same():\n    """Stands in each of the three modules, word by word."""\n\n'
            'def short():\n    """Short."""\n'
        )
        found.append(("made", path))
    broken = tmp_path / "broken.py"
    broken.write_text("def (:\n")
    return [*found, ("made", broken)]


def _as_read_here(files: list[tuple[str, Path]]) -> list[str]:
    texts = dict.fromkeys(
        text for _, path in files for _, text in docstrings_of(path) if len(text) >= 20
    )
    return list(texts)


def test_what_is_read_elsewhere_is_what_would_be_read_here(files, monkeypatch):
    expected = _as_read_here(files)
    assert len(expected) == 4

    def refused(*_: object) -> None:
        raise AssertionError("parsed in the process that draws the pages")

    monkeypatch.setattr("core.docs_corpus.parse_module", refused)
    seen: set[str] = set()
    found = parsed.read_docstrings(files, min_chars=20, seen=seen, seed=3)
    assert seen == set(expected)
    assert sorted(it.text for it in found) == sorted(expected)
    assert found == drop_near_duplicates(
        sorted(found, key=lambda it: expected.index(it.text)), seed=3
    )
    assert parsed.read_docstrings(files, min_chars=20, seen=seen, seed=3) == []


def test_where_the_process_is_killed_the_files_are_read_here(files, monkeypatch):
    before = parsed.read_docstrings(files, min_chars=20, seen=set(), seed=0)

    def killed(*_: object, **__: object) -> None:
        raise WorkerDied("The worker process was ended by signal 9.")

    monkeypatch.setattr(WorkerProcess, "run", killed)
    seen: set[str] = set()
    assert parsed.read_docstrings(files, min_chars=20, seen=seen, seed=0) == before
    assert seen == set(_as_read_here(files))
