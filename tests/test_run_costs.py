"""What a run says beforehand: memory of all its processes, and what an earlier run left of it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core.activations.text_index import IndexRequest
from core.corpus.documents import pasted_text
from core.corpus.token_set import TokenSet
from core.firings.kept import About, open_or_begin
from core.jobs.progress import Progress
from core.run import index as index_run
from core.run.cost import Cost, Measured, peak_memory
from core.run.index import IndexTask
from core.run.shared_cost import shared
from core.store import Store

_BYTES = 100 << 20
_PATIENCE = 30.0


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


@pytest.mark.parametrize("workers", [None, 2])
def test_where_firings_are_kept_the_memory_is_that_of_one_sae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    """They are indexed one after the other then, and several at a time where they are not."""
    shards = [Measured(tokens=n, seconds=1, memory=1e8, disk=0, store=0) for n in (500, 1000)]
    monkeypatch.setattr(index_run, "measured", lambda *_, **__: shards)
    settings = SimpleNamespace(device="cpu")
    hands: Any = None
    if workers is not None:
        hands = SimpleNamespace(
            workers=workers, threads=1, is_local=True, settings=settings, begin=lambda: None
        )

    class Models:
        def lease(self, _model: str, names: list[Any], **_: Any) -> Any:
            saes = [SimpleNamespace(cfg=SimpleNamespace(d_sae=16_384)) for _ in names]
            return SimpleNamespace(turn=lambda: nullcontext((None, saes)))

    def said(n_saes: int, *, firings: bool) -> float:
        saes = tuple(("r", str(number), "1") for number in range(n_saes))
        request = IndexRequest("m", saes, pasted_text("some words"), 1000)
        store = Store(tmp_path / "store")
        machine: Any = SimpleNamespace(store=store, engine=Models())
        task = IndexTask(machine, request, (), "docs", firings=firings, hands=hands)
        return task.estimate(Progress()).memory

    one = said(1, firings=True)
    # Examples of a latent take 9 kB while a text is read.
    assert one == said(1, firings=False) == said(4, firings=True)
    assert said(2, firings=False) > one + 16_384 * 8000


def test_time_of_workers_counts_the_threads_that_they_have() -> None:
    """Two workers with half of the threads each are as fast as one process with all of them."""
    threads = 2 * torch.get_num_threads()
    settings = SimpleNamespace(device="cpu")

    def said(n: int, each: int, *, local: bool = True) -> float:
        hands: Any = SimpleNamespace(workers=n, threads=each, is_local=local, settings=settings)
        return (
            shared(Cost(seconds=100), hands, worker=1e9, own=1e9).seconds
            - shared(Cost(seconds=0), hands, worker=1e9, own=1e9).seconds
        )

    with torch_threads(threads):
        assert said(2, threads // 2) == 100
        assert said(2, threads) == 50
        assert said(2, 2 * threads) == 50, "more threads than were measured help nobody"
        assert said(4, 1, local=False) == 25, "another machine's cores are its own"
