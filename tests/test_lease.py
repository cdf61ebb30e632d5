"""Leases: the same work on plain objects and on the engine's, in turns, told and cancelled."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from core import lease as lease_module
from core.engine import lease as engine_lease
from core.jobs.progress import JobCancelled, PartProgress, Progress
from core.lease import Lease, PlainLease
from core.models import Model, cache_sites
from core.saes import sae_hook_name
from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae
from tests.engine_fakes import Recorder, make_engine


def test_a_plain_lease_hands_out_the_callers_objects(tiny_model: Model, tiny_sae: SAE) -> None:
    lease = PlainLease(tiny_model, [tiny_sae])
    with lease.turn() as (model, saes):
        assert model is tiny_model
        assert saes == [tiny_sae]
    assert lease.model_fingerprint == fingerprint_of_model(tiny_model)
    assert lease.sae_fingerprints == (fingerprint_of_sae(tiny_sae),)
    tokenizer = lease.tokenizer
    assert tokenizer is lease.tokenizer is not tiny_model.tokenizer
    assert tokenizer.get_vocab() == tiny_model.tokenizer.get_vocab()


def test_some_of_the_saes(tiny_model: Model, tiny_sae: SAE) -> None:
    lease = PlainLease(tiny_model, [tiny_sae, tiny_sae])
    with lease.with_saes([1]).turn() as (_, saes):
        assert len(saes) == 1


def test_turns_do_all_of_the_work_once(tiny_model: Model, tiny_sae: SAE) -> None:
    lease, tokens = PlainLease(tiny_model, [tiny_sae]), torch.randint(5, 200, (7, 6))
    site, parts = sae_hook_name(tiny_sae), []

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        parts.append(cache_sites(model, tokens[first:last], [site])[site])

    lease.in_turns(7, read, unit="rows", message="Reading")
    whole = cache_sites(tiny_model, tokens, [site])[site]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert len(parts) > 1
    assert lease.progress.view().done == 7


def test_steps_fit_the_time_of_a_turn(monkeypatch: pytest.MonkeyPatch, tiny_model: Model) -> None:
    now, steps = [0.0], []
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: now[0])

    def slow(model: Any, saes: Any, first: int, last: int) -> None:
        steps.append(last - first)
        now[0] += 0.25 * (last - first)

    PlainLease(tiny_model).in_turns(40, slow, unit="rows", message="Reading")
    assert sum(steps) == 40
    # Never more than four times the step before, and from then on two seconds each.
    assert steps[:3] == [1, 4, 8]
    assert set(steps[2:-1]) == {8}


def test_progress_counts_on_from_the_parts_before(tiny_model: Model) -> None:
    seen: list[tuple[float, float | None]] = []

    class Spy(Progress):
        def update(self, done: float, total: float | None = None, **words: str) -> None:
            seen.append((done, total))

    lease = PlainLease(tiny_model, progress=Spy())
    lease.in_turns(2, lambda *_: None, unit="rows", message="Reading", before=3, total=9)
    assert seen == [(3, 9), (4, 9), (5, 9)]


def test_a_cancelled_lease_gives_no_further_turn(tiny_model: Model) -> None:
    lease, done = PlainLease(tiny_model), []

    def work(model: Any, saes: Any, first: int, last: int) -> None:
        done.append(first)
        lease.progress.cancel()

    with pytest.raises(JobCancelled):
        lease.in_turns(5, work, unit="rows", message="Reading")
    assert done == [0]


def test_parts_tell_the_whole() -> None:
    whole = Progress()
    part = PartProgress(whole, before=10, total=30, message="Reading")
    part.update(5, 8, unit="rows", message="unheard")
    view = whole.view()
    assert (view.done, view.total, view.unit, view.message) == (15, 30, "rows", "Reading")
    silent = PartProgress(whole, silent=True)
    silent.update(1, 2)
    assert whole.view().done == 15
    whole.cancel()
    assert part.cancelled
    for one in (part, silent):
        with pytest.raises(JobCancelled):
            one.update(6)


def test_the_engine_lends_a_model_to_one_thread_at_a_time() -> None:
    engine = make_engine(Recorder())
    inside, most = [0], [0]
    guard = threading.Lock()

    def work(lease: Lease) -> None:
        def step(model: Any, saes: Any, first: int, last: int) -> None:
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.002)
            with guard:
                inside[0] -= 1

        lease.in_turns(20, step, unit="rows", message="Reading")

    threads = [threading.Thread(target=work, args=(engine.lease("m"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1]


def test_fingerprints_of_the_engines_objects_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gpt2_dir: Path
) -> None:
    from core.catalog import Catalog
    from core.engine import Engine
    from core.settings import Settings
    from tests.builders import make_sae

    sae = make_sae("standard", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre")
    sae.cfg.metadata.model_name = str(tiny_gpt2_dir)
    sae.save_model(tmp_path / "mine" / "one")
    settings = Settings(
        cache_dir=tmp_path / "cache", user_sae_dirs=(tmp_path / "mine",), demo_dir=tmp_path
    )
    engine = Engine(Catalog(settings), device="cpu")
    calls = {"model": 0, "sae": 0}
    for kind, compute in (("model", fingerprint_of_model), ("sae", fingerprint_of_sae)):

        def counted(loaded: Any, kind: str = kind, compute: Any = compute) -> str:
            calls[kind] += 1
            return compute(loaded)

        monkeypatch.setattr(engine_lease, f"fingerprint_of_{kind}", counted)
    name = str(tiny_gpt2_dir)
    found = []
    for _ in range(3):
        lease = engine.lease(name, [("mine", "one")])
        found.append((lease.model_fingerprint, *lease.sae_fingerprints))
    assert len(set(found)) == 1
    assert calls == {"model": 1, "sae": 1}
    with engine.use(name, [("mine", "one")]) as (model, (loaded,)):
        assert found[0] == (fingerprint_of_model(model), fingerprint_of_sae(loaded))


def test_errors_of_the_hub_come_in_words() -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(entry: Any, **options: Any) -> int:
        raise LocalEntryNotFoundError("nothing here")

    engine = make_engine(Recorder(), fetch=offline)
    with pytest.raises(ValueError, match=r"\S"), engine.lease("m").turn():
        pass
