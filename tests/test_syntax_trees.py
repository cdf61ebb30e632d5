"""Threads that parse Python at the same time do not disturb one another."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.autointerp.json_text import whole_json
from core.catalog.formats.archives import load_arrays
from core.docs_corpus import docstrings_of
from core.store import ARRAYS
from core.syntax_trees import parse_alone, parse_literal


class Garbage:
    """Its finalizer lets other threads run, wherever the collection happens that finds it."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(1e-5)


def test_documentation_is_parsed_while_stored_arrays_are_opened(tmp_path: Path) -> None:
    archive = tmp_path / "weights.npz"
    np.savez(archive, W_dec=np.eye(3), b_dec=np.ones(3))
    stored = ARRAYS.encode({f"a{n}": np.arange(n) for n in range(8)})
    source = Path(np.lib._version.__file__)
    expected = list(docstrings_of(source))
    done = threading.Event()

    def parse() -> None:
        while not done.is_set():
            assert list(docstrings_of(source)) == expected

    def read() -> None:
        for _ in range(25):
            Garbage()
            assert ARRAYS.decode(stored)["a7"].tolist() == list(range(7))
            assert load_arrays(archive)["b_dec"].tolist() == [1, 1, 1]
            assert whole_json("{'a': [1, 2]}") == {"a": [1, 2]}

    with ThreadPoolExecutor(4) as pool:
        parsers = [pool.submit(parse) for _ in range(2)]
        try:
            for reader in [pool.submit(read) for _ in range(2)]:
                reader.result()
        finally:
            done.set()
        for parser in parsers:
            parser.result()


def test_what_a_library_disturbs_is_tried_again_and_other_errors_pass() -> None:
    calls = []

    def disturbed() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=51, after=54)")
        return "parsed"

    assert parse_alone(disturbed) == "parsed"
    assert len(calls) == 3
    with pytest.raises(SystemError, match="something else"):
        parse_alone(lambda: (_ for _ in ()).throw(SystemError("something else")))
    with pytest.raises(SyntaxError):
        parse_literal("(")
