"""Verification, circuits and induction: in short turns, kept in the store, and the same again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core import lease as lease_module
from core.catalog import Catalog
from core.circuits import request as circuit_module
from core.circuits.graph import Pruning
from core.circuits.request import CircuitRequest, chain_note, trace
from core.engine import Engine
from core.gradients import heads as heads_module
from core.gradients import induction_request as induction_module
from core.gradients import sae_choices
from core.gradients import verify_request as check_module
from core.gradients.display import list_strongest_cells
from core.gradients.gradient_request import GradientRequest, compute
from core.gradients.heads import HeadsRequest, find_heads
from core.gradients.induction_request import InductionRequest, find
from core.gradients.verify_request import check
from core.jobs.progress import JobCancelled, Progress
from core.lease import Lease
from core.settings import Settings
from core.store import Store
from core.view.choices import read_choices
from tests.demo_bundle import write_demo


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    demo: Path = write_demo(tmp_path_factory.mktemp("gradients-kept"))
    return Engine(Catalog(replace(Settings(), demo_dir=demo)), device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every turn that is taken, one entry each; one within another counts with it."""
    taken: list[object] = []
    use = Engine.use

    def counted(self: Engine, *names: Any, **options: Any) -> Any:
        if self.locks.held is None:
            taken.append(names)
        return use(self, *names, **options)

    monkeypatch.setattr(Engine, "use", counted)
    return taken


def lease(
    engine: Engine,
    request: GradientRequest | CircuitRequest | InductionRequest,
    progress: Progress | None = None,
) -> Lease:
    entries = request.chain if isinstance(request, CircuitRequest) else request.entries
    model = request.heads.model if isinstance(request, InductionRequest) else request.model
    return engine.lease(model, [it.key for it in entries], progress=progress)


def sae(engine: Engine, name: str) -> Any:
    found = sae_choices.find(
        sae_choices.usable(read_choices(engine.catalog, hub=False), "docs-small"), name
    )
    assert found is not None
    return found


def test_a_check_in_several_turns_is_the_same_and_is_kept(
    engine: Engine, store: Store, turns: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [sae(engine, f"docs-small-res/blocks.{layer}.hook_resid_pre") for layer in (0, 2)]
    request = GradientRequest("latents", "docs-small", "The river runs", *ends)
    result = compute(lease(engine, request), store, request)
    cells = list_strongest_cells(result.matrix, 12)
    whole = check(lease(engine, request), Store(store.directory / "other"), result, cells)
    turns.clear()
    monkeypatch.setattr(lease_module, "TURN_SECONDS", 0.0)
    parts = check(lease(engine, request), store, result, cells)
    # Five cells, and as many turns of one as are left when a turn may take no time.
    assert len(turns) == 1 + 7
    pd.testing.assert_frame_equal(parts.verification.cells, whole.verification.cells, atol=1e-5)

    turns.clear()
    monkeypatch.setattr(check_module, "changes", None)
    again = check(lease(engine, request), store, result, cells)
    assert len(turns) == 0
    assert again.names == parts.names
    assert again.verification.verdict == parts.verification.verdict
    pd.testing.assert_frame_equal(again.verification.cells, parts.verification.cells)
    with pytest.raises(TypeError):
        check(lease(engine, request), store, result, cells[:3])


def circuit_request(engine: Engine, **options: Any) -> CircuitRequest:
    chain = tuple(sae(engine, f"docs-small-res/blocks.{it}.hook_resid_pre") for it in (0, 1, 2))
    request = CircuitRequest("docs-small", "The river runs", chain, (), Pruning(), True, True)
    return replace(request, **options)


def test_a_circuit_is_traced_a_layer_a_turn_and_is_kept(
    engine: Engine, store: Store, turns: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = circuit_request(engine)
    first = trace(lease(engine, request), store, request)
    # Before the store is asked, a layer each, and what else could be explained.
    assert len(turns) == 1 + 4 + 1
    assert chain_note(request.chain) is None
    turns.clear()
    monkeypatch.setattr(circuit_module, "trace_circuit", None)
    again = trace(lease(engine, request), store, request)
    assert len(turns) == 1
    for name in ("tokens", "labels", "titles", "ends", "saes", "parts", "n_leading"):
        assert getattr(again, name) == getattr(first, name)
    pd.testing.assert_frame_equal(again.circuit.nodes, first.circuit.nodes)
    pd.testing.assert_frame_equal(again.frame(), first.frame())
    for name in ("layers", "kept", "rest", "tokens"):
        assert getattr(again.circuit, name) == getattr(first.circuit, name)
    assert first.ends[0].title.endswith("likely)")
    with pytest.raises(TypeError):
        trace(lease(engine, request), store, replace(request, freeze_attention=False))


def test_a_cancelled_circuit_is_not_kept(engine: Engine, store: Store, turns: list[object]) -> None:
    stopped = Progress()
    stopped.cancel()
    with pytest.raises(JobCancelled):
        trace(lease(engine, circuit_request(engine), stopped), store, circuit_request(engine))
    assert store.usage().recomputable.entries == 0
    request = circuit_request(engine, end=(3,))
    found = trace(lease(engine, request), store, request)
    assert found.ends[0].end == (3,) or (3,) in [it.end for it in found.ends]


def test_induction_in_several_turns_is_the_same_and_is_kept(
    engine: Engine, store: Store, turns: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = HeadsRequest("docs-small", 4, 0)
    scores = find_heads(engine.lease(heads.model), store, heads)
    heads_sae = sae(engine, "docs-small-hook-z/blocks.1.hook_z")
    request = InductionRequest(heads, heads_sae, heads_sae)
    other = Store(store.directory / "other")
    whole = find(lease(engine, request), other, request)
    turns.clear()
    monkeypatch.setattr(lease_module, "TURN_SECONDS", 0.0)
    parts = find(lease(engine, request), store, request)
    assert len(turns) >= 3
    np.testing.assert_allclose(parts.first_prompt.values, whole.first_prompt.values, atol=1e-5)
    pd.testing.assert_frame_equal(parts.latents, whole.latents, atol=1e-4)
    assert len(parts.latents) > 0
    assert parts.first_prompt.values.any()

    turns.clear()
    monkeypatch.setattr(induction_module, "find_induction", None)
    monkeypatch.setattr(heads_module, "head_scores", None)
    again = find(lease(engine, request), store, request)
    same = find_heads(engine.lease(heads.model), store, heads)
    assert len(turns) == 2
    pd.testing.assert_frame_equal(again.latents, parts.latents)
    pd.testing.assert_frame_equal(again.partners, parts.partners)
    pd.testing.assert_frame_equal(
        again.first_prompt.frame(), parts.first_prompt.frame(), check_dtype=False
    )
    assert repr(again.boxes) == repr(parts.boxes)
    assert repr(again.control_boxes) == repr(parts.control_boxes)
    pd.testing.assert_frame_equal(same.scores, scores.scores)
    assert same.titles == scores.titles
    assert same.tokens == scores.tokens
    for place, pattern in scores.patterns.items():
        np.testing.assert_array_equal(same.patterns[place], pattern)
    with pytest.raises(TypeError):
        find_heads(engine.lease(heads.model), store, replace(heads, seed=1))
