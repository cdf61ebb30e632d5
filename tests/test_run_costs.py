"""What a run says beforehand: memory of all its processes, and what an earlier run left of it."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from core.activations.text_index import IndexRequest
from core.corpus.documents import pasted_text
from core.corpus.token_set import TokenSet
from core.firings.kept import About, open_or_begin
from core.run.cost import peak_memory
from core.run.index import IndexTask

_BYTES = 100 << 20
_PATIENCE = 30.0


def test_memory_of_processes_that_were_started_counts_where_asked() -> None:
    code = f"x = bytes({_BYTES}) + b'1'; print(1, flush=True); input()"
    with peak_memory(all_processes=False) as own, peak_memory() as every:
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + _PATIENCE
            while every() < own() + _BYTES and time.monotonic() < deadline:
                time.sleep(0.05)
            child.communicate("\n")
        assert every() >= own() + _BYTES, "the largest stays, when the process has ended"


def test_files_of_a_run_that_was_killed_are_not_counted_again(tmp_path: Path) -> None:
    text, saes = pasted_text("some words"), (("r", "a", "1"), ("r", "b", "1"))
    request = IndexRequest("m", saes, text, 1000)
    tokens = TokenSet.from_rows(np.arange(1, 41)[:, None], bos_id=None)
    machine: Any = SimpleNamespace(store=SimpleNamespace(directory=tmp_path))
    task = IndexTask(machine, request, (), "docs", firings=True)
    assert task._share_left(request) == 1
    for number, sae in enumerate(saes):
        about = About(
            model="m",
            sae=sae,
            text=text.name,
            text_digest=text.digest,
            tokens=1000,
            include_bos=False,
            tokens_digest=tokens.digest,
            d_sae=8,
            context=tokens.context,
            n_rows=40,
            step=10,
            n_tokens=40,
        )
        place = open_or_begin(tmp_path, about, tokens, model="m", sae=sae[1])
        for span in place.spans[: 3 - number]:
            place.file(span).touch()
    assert task._share_left(request.only(0)) == 1 / 4
    assert task._share_left(request) == 2 / 4, "the one of which more is missing counts"
    assert task._share_left(replace(request, tokens=999)) == 1
    assert replace(task, firings=False)._share_left(request) == 1
