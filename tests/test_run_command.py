"""Runs from a shell: what pages show of them, what they cost, and how they end."""

import argparse
import io
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.activations import text_index
from core.activations.stored_index import open_index
from core.activations.text_index import make_index, was_ever_made
from core.autointerp.record import listed_runs, load_record, save_record
from core.dossier.batch import stored_batch
from core.jobs.progress import JobCancelled, Progress
from core.latent.last_text import last_text
from core.run import bar, tasks
from core.run.arguments import parser
from core.run.command import main
from core.run.cost import Cost, Measured, drawn_out, shards_of
from core.sae_quality import measure
from core.sae_quality.run import run_quality, was_measured
from core.settings import Settings
from core.shell import Machine, positive
from core.splitting.map_data import build_map
from core.usual_time import in_short
from tests.demo_bundle import write_demo
from tests.dossier_planted import dossier
from tests.loopback_openai import loopback_openai

RELEASE, SAE = "docs-small-res", "blocks.1.hook_resid_pre"
FAMILY = "docs-small-res-splitting"
WORDS = "the mean of an array is the sum of its elements divided by their number . "


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("shell")
    demo = write_demo(folder / "demo")
    machine = Machine(Settings(cache_dir=folder / "cache", demo_dir=demo, device="cpu"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    words = WORDS.split()
    lines = [" ".join(rng.choice(words, 60)) for _ in range(120)]
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text("\n\n".join(lines))
    return str(file)


def run(here: Machine, *words: str, ask=lambda: False) -> int:
    return main(words, machine=lambda: here, ask=ask)


def task(here: Machine, *words: str):
    return tasks.task_of(parser().parse_args(words), here)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("this was computed before")


@pytest.mark.slow
def test_an_index_is_found_by_the_page(here, text, monkeypatch, capsys) -> None:
    words = ("index", "--release", RELEASE, "--text", text, "--tokens", "4k", "--yes")
    wanted = task(here, *words)
    assert len(wanted.entries) == 3, "all SAEs of the release"
    assert run(here, *words) == 0
    said = capsys.readouterr().out
    assert "Time " in said
    assert "Money     $0" in said
    assert said.count("/latent?model=docs-small&release=docs-small-res&sae=") == 3
    assert f"corpus=file%3A{wanted.text.split(':')[1]}" in said
    assert was_ever_made(here.store, wanted.request.only(2))
    monkeypatch.setattr(text_index, "build_statistics", refuse)
    lease = here.engine.lease("docs-small", [entry.key for entry in wanted.entries])
    found = make_index(lease, here.store, wanted.request)
    assert [index.d_sae for index in found] == [64, 64, 64]
    assert found[0].n_tokens > 3000
    entry = wanted.entries[1]
    noted = last_text(here.store, ("docs-small", *entry.key, entry.version))
    assert noted == {"corpus": wanted.text, "tokens": 4000, "include_bos": False}
    assert run(here, *words[:-1]) == 0, "what is there costs nothing, so nobody is asked"
    assert "costs nothing" in capsys.readouterr().out


@pytest.mark.slow
def test_the_estimate_says_what_the_index_takes(here, text, capsys) -> None:
    words = ("index", "--release", RELEASE, "--sae", SAE, "--text", text, "--tokens", "6k")
    wanted = task(here, *words)
    before = here.store.usage().recomputable.bytes
    assert run(here, *words, "--estimate") == 0
    assert here.store.usage().recomputable.bytes == before, "a shard leaves nothing behind"
    cost = wanted.estimate(Progress())
    wanted.run(Progress())
    grown = here.store.usage().recomputable.bytes - before
    assert cost.disk == pytest.approx(grown, rel=0.2)
    assert cost.seconds > 0
    assert cost.memory > 50e6
    assert "Measured on the first" in capsys.readouterr().out


@pytest.mark.slow
def test_quality_and_explanations_are_found_by_their_pages(here, text, monkeypatch, capsys) -> None:
    one = ("--release", RELEASE, "--sae", SAE)
    words = ("quality", *one, "--text", text, "--tokens", "3k", "--yes")
    assert run(here, *words) == 0
    quality = task(here, *words)
    assert was_measured(here.store, quality.request)
    monkeypatch.setattr(measure, "measure_quality", refuse)
    lease = here.engine.lease("docs-small", quality.request.names)
    assert run_quality(lease, here.store, quality.request)[0].quality.text.n_tokens > 2000

    words = ("autointerp", *one, "--text", text, "--tokens", "6k", "--latents", "5 random")
    assert run(here, *words, "--yes") == 0
    wanted = task(here, *words)
    record = load_record(here.store, wanted.request.id)
    assert record["status"] == "done"
    assert len(record["results"]) == 5
    assert wanted.request.id in {it["id"] for it in listed_runs(here.store, record["fingerprint"])}
    assert f"run={wanted.request.id}" in capsys.readouterr().out

    with loopback_openai() as service:
        service.needs_key = False
        words = ("autointerp", *one, "--text", text, "--tokens", "6k", "--latents", "3 random")
        chat = (
            "--explainer",
            "chat",
            "--judge",
            "chat",
            "--chat-model",
            "m",
            "--url",
            service.url,
            "--no-controls",
        )
        prices = ("--prompt-price", "1", "--completion-price", "2")
        assert run(here, *words, *chat, *prices, "--estimate") == 0
        said = capsys.readouterr().out
        assert re.search(r"Money     at most \$0\.\d+ \([3-6] questions", said), said
        assert service.requests == [], "nothing is asked before the answer"
        assert run(here, *words, *chat, *prices, "--yes") == 0
        asked = len(service.requests)
        assert asked >= 3
        paid = task(here, *words, *chat, *prices)
        record = load_record(here.store, paid.request.id)
        save_record(here.store, record | {"status": "running"})  # as a killed run leaves it
        assert run(here, *words, *chat, *prices, "--yes") == 0
        assert len(service.requests) == asked, "no answer is paid for twice"
        assert "read again, $" in capsys.readouterr().out


@pytest.mark.slow
def test_a_map_and_dossiers_are_found_by_their_pages(here, text, monkeypatch, capsys) -> None:
    class Flat:
        """Stands in for the process that does UMAP."""

        def run(self, function, directions, *args, progress=None, **kwargs):
            assert function.endswith("fit_layout")
            return np.ascontiguousarray(directions[:, :2])

        def close(self):
            pass

    monkeypatch.setitem(here.__dict__, "worker", Flat())
    words = ("map", "--release", FAMILY, "--sae", f"{SAE}_64", "--yes")
    assert run(here, *words) == 0
    drawn = task(here, *words)
    assert [entry.width for entry in drawn.entries] == [32, 64, 128], "as the page proposes"
    lease = here.engine.lease("docs-small", [entry.key for entry in drawn.entries])
    assert len(build_map(lease, here.store, refuse, drawn.request).map.points) == 224
    assert f"saes={SAE}_32%2C{SAE}_64%2C{SAE}_128" in capsys.readouterr().out

    made = []

    def planted(lease_of, store, requests, *, parts=(), on_latent=None):
        made.append(list(requests))
        found = [replace(dossier(), request=request) for request in requests]
        for one in found:
            if on_latent is not None:
                on_latent(one)
        return found

    monkeypatch.setattr("core.dossier.batch.run_dossiers", planted)
    monkeypatch.setattr("core.run.dossier.run_dossiers", planted)
    one = ("--release", RELEASE, "--sae", SAE)
    words = ("dossier", *one, "--text", text, "--tokens", "20k", "--latents", "3,5,9", "--yes")
    assert run(here, *words) == 0
    (first, whole) = made
    assert [it.latent for it in first] == [3, 5], "these are made to tell, and kept"
    assert "Measured on the first 2 of 3 latents" in capsys.readouterr().out
    assert [(it.latent, it.tokens) for it in whole] == [(3, 20_000), (5, 20_000), (9, 20_000)]
    assert len(stored_batch(here.store, whole)) == 3
    assert task(here, *words).is_made()
    others = ("dossier", *one, "--text", text, "--tokens", "20k", "--latents", "7", "--estimate")
    assert run(here, *others) == 0
    assert len(made) == 2, "what a dossier takes here is known by now"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("index", "--release", "nothing"), "nothing"),
        (("index", "--release", RELEASE, "--sae", "blocks.9"), "has no SAE 'blocks.9'"),
        (("index", "--release", RELEASE, "--text", "gone.txt"), "There is no file gone.txt"),
        (("index", "--release", RELEASE, "--text", "hub:?"), "names no text"),
        (("map", "--release", RELEASE), "Say which SAEs lie on the map"),
        (("map", "--release", RELEASE, "--sae", SAE, "blocks.0.hook_resid_pre"), "another site"),
        (("map", "--release", RELEASE, "--sae", SAE), "belongs to no family of widths here"),
        (
            ("map", "--release", FAMILY, "--sae", f"{SAE}_64", "--neighbors", "1"),
            "n_neighbors is 1",
        ),
        (
            ("autointerp", "--release", RELEASE, "--sae", SAE, "--latents", "x"),
            "'x' is neither a latent nor a range",
        ),
        (("index", "--release", RELEASE, "--tokens", "1B"), "1000000000"),
        (("dossier", "--release", RELEASE, "--sae", SAE, "--latents", "99"), "0 to 63"),
        (
            ("autointerp", "--release", RELEASE, "--sae", SAE, "--judge", "chat"),
            "No chat service is set up",
        ),
    ],
    ids=[
        "release",
        "sae",
        "file",
        "dataset",
        "no-sae",
        "site",
        "no-family",
        "neighbours",
        "latents",
        "1b",
        "99",
        "chat",
    ],
)
def test_bad_input_is_one_sentence(here, words, sentence, monkeypatch, capsys) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert run(here, *words, "--yes") == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_how_runs_end(here, text, monkeypatch, capsys) -> None:
    words = ("index", "--release", RELEASE, "--sae", SAE, "--text", text, "--tokens", "5k")
    cost = Cost(seconds=3, memory=1e8, disk=1e6)
    monkeypatch.setattr("core.run.index.IndexTask.estimate", lambda self, progress: cost)
    assert run(here, *words) == 130, "answered no"
    assert not was_ever_made(here.store, task(here, *words).request)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(words, machine=lambda: here) == 2
    assert "nobody to ask" in capsys.readouterr().err

    def broken(self, progress):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("core.run.index.IndexTask.run", broken)
    assert run(here, *words, "--yes") == 1
    assert "the disk is on fire" in capsys.readouterr().err

    def cancelled(self, progress):
        progress.cancel()
        progress.check()

    monkeypatch.setattr("core.run.index.IndexTask.run", cancelled)
    assert run(here, *words, "--yes") == 130
    assert "goes on from there" in capsys.readouterr().err
    for large, sentence in (
        (Cost(disk=1e18), "on the disk of"),
        (Cost(store=1e12), "the store keeps the latest"),
        (Cost(memory=1e15), "of memory, and"),
    ):
        cost = large
        assert run(here, *words, "--yes") == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_cancelled_index_goes_on_to_the_same_bits(here, text, tmp_path, monkeypatch) -> None:
    words = ("index", "--release", RELEASE, "--sae", SAE, "--text", text, "--tokens", "7k")
    other = Machine(replace(here.settings, cache_dir=tmp_path))
    whole = task(other, *words)
    wanted = task(here, *words)
    monkeypatch.setattr("core.activations.build._STRETCH_BATCHES", 1)
    monkeypatch.setattr(text_index, "BATCH_TOKENS", 1024)
    monkeypatch.setattr(text_index, "_CHECKPOINT_SECONDS", 0.0)
    progress = Progress()

    def update(done, total=None, *, unit="", message=""):
        if message == "Reading the text" and done > 2000:
            progress.cancel()
        Progress.update(progress, done, total, unit=unit, message=message)

    monkeypatch.setattr(progress, "update", update)
    with pytest.raises(JobCancelled):
        wanted.run(progress)
    assert list((here.store.directory / "passes").iterdir()), "a checkpoint was left"
    wanted.run(Progress())
    whole.run(Progress())
    [found] = make_index(whole._lease(whole.request, Progress()), other.store, whole.request)
    one, two = open_index(here.store, found.key), open_index(other.store, found.key)
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(array, two.to_arrays()[name], err_msg=name)


def test_work_beside_a_bar_is_stopped_by_a_signal() -> None:
    started = threading.Event()

    def work(progress: Progress) -> None:
        for done in range(10_000):
            progress.update(done, 10_000, unit="steps", message="Stepping")
            started.set()
            if done == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            started.wait(0.001)
            threading.Event().wait(0.002)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(JobCancelled):
        bar.with_bar(work)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="so it is"):
        bar.with_bar(lambda _: (_ for _ in ()).throw(ValueError("so it is")))


def test_costs_follow_the_line_through_two_shards() -> None:
    cost = drawn_out(
        [Measured(100, 3.0, 50.0, 10.0, 1.0), Measured(200, 4.0, 60.0, 30.0, 2.0)], 1000
    )
    assert (cost.seconds, cost.memory, cost.disk, cost.store) == (
        12.0,
        60.0 + 16 * 800,
        190.0,
        10.0,
    )
    slow = drawn_out([Measured(100, 1.0, 0, 0, 0), Measured(200, 8.0, 0, 0, 0)], 1000)
    assert slow.seconds == 40.0, "no faster than in proportion"
    assert shards_of(200_000) == (1024, 16_384)
    assert shards_of(200_000, shorter=8192) == (8192, 32_768)
    assert shards_of(1000) == (250, 500)
    assert [in_short(s) for s in (0.2, 40, 600, 9000, 500_000)] == [
        "1 s", "40 s", "10 min", "2.5 h", "5.8 days",
    ]  # fmt: skip


def test_numbers_as_people_write_them() -> None:
    assert [positive(it) for it in ("7", "200k", "2_000", "10M", "1B")] == [
        7, 200_000, 2000, 10_000_000, 1_000_000_000,
    ]  # fmt: skip
    for bad in ("0", "-3", "1.5", "many", "k"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
            positive(bad)


def test_a_file_is_kept_where_pages_keep_it(here, text) -> None:
    wanted = task(here, "index", "--release", RELEASE, "--text", text)
    kept = here.store.directory / "texts" / wanted.text.split(":")[1]
    assert kept.read_bytes() == Path(text).read_bytes()
