"""Patch scoping on an imitation of Gemma: its architecture, its chat format, bf16."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from core import resources
from core.engine import Engine
from core.models import Model, load_model
from core.patch_scoping import scale_tuning, transfer
from core.patch_scoping.controls import UNTOUCHED, control_sweep
from core.patch_scoping.prompt import template_prompt
from core.patch_scoping.question import Question, prompt_facts
from core.patch_scoping.sweep import SweepConfig, sweep
from core.settings import Settings
from tests.builders import make_sae, write_sae
from tests.demo_bundle import write_demo
from tests.page_sessions import Open, page_server, settle, texts
from tests.tiny_gemma import write_tiny_gemma

pytestmark = pytest.mark.slow

SAE = make_sae("jumprelu", d_in=32, d_sae=48, hook_name="blocks.2.hook_resid_post")
CONFIG = SweepConfig(layers=(2,), multiples=(0.0, 0.5, 1.0, 1000.0), max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def gemma(request: pytest.FixtureRequest, folder: Path) -> Model:
    return load_model(folder, device="cpu", dtype=getattr(torch, request.param))


def test_sweep_in_gemmas_chat_format(gemma: Model) -> None:
    prompt = template_prompt(gemma, "definition")
    assert prompt.text.startswith("<|endoftext|><start_of_turn>user\nWhat is the meaning")
    assert prompt.text.endswith('<start_of_turn>model\nThe meaning of the word "<unk>" is "')
    assert prompt.tokens.count(0) == 1
    assert [prompt.tokens[it] for it in prompt.positions] == [1, 1]
    found = sweep(gemma, SAE, [3, 9], {"definition": prompt}, CONFIG)
    measures = found.table[["self_similarity", "entropy", "cross_entropy", "mean_log_prob"]]
    assert np.isfinite(measures.to_numpy()).all()
    assert found.table["score"].between(-1, 1).all()
    assert set(found.against_null) == {(it, "definition") for it in (3, 9)}
    at_zero = found.table[found.table["scale"] == 0]
    assert at_zero["answer"].nunique() == 1, "at scale 0 the latent does not matter"
    controls = control_sweep(gemma, SAE, {"definition": prompt}, CONFIG, others=[5])
    assert list(controls["latent"].unique()) == ["random direction 1", "latent 5", UNTOUCHED]
    assert controls[controls["latent"] == UNTOUCHED]["answer"].nunique() == 1


def test_bf16_measures_are_those_of_float32_up_to_rounding(folder: Path) -> None:
    tables = [
        scale_tuning(
            load_model(folder, device="cpu", dtype=dtype),
            SAE,
            'What is "<unk>"? It is "',
            3,
            1,
            3,
            (0.5, 2.0, 8.0),
        )
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for name in ("self_similarity", "entropy", "cross_entropy"):
        np.testing.assert_allclose(tables[1][name], tables[0][name], atol=0.15)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def open_page(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """The page on a bundle whose models are imitations of Gemma, the tuned one of other weights."""
    home = tmp_path_factory.mktemp("gemma-page")
    demo = write_demo(home / "demo")
    for seed, name in enumerate(("docs-small", "docs-small-it")):
        for file in (demo / "models" / name).iterdir():
            file.unlink()
        write_tiny_gemma(demo / "models" / name, seed=seed)
    hook = "blocks.2.hook_resid_post"
    sae = make_sae("jumprelu", d_in=32, d_sae=48, hook_name=hook, model_name="docs-small")
    write_sae(sae, demo / "saes" / "docs-small-res" / hook)
    settings = Settings(cache_dir=home / "cache", demo_dir=demo, device="cpu")
    replaced = {
        (resources, "Engine"): partial(Engine, dtype=request.param),
        (transfer, "SAMPLE_TOKENS"): 600,
    }
    link = {"model": "docs-small", "release": "docs-small-res", "sae": hook, "latent": "3"}
    link |= {"layers": "2", "scales": "0 1 1000", "tokens": "5"}
    with page_server(settings, "pages/patch-scoping.py", link=link, replaced=replaced) as opened:
        assert resources.engine().dtype == request.param
        yield opened


def test_the_page_speaks_gemmas_chat_format(open_page: Open) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error, texts(app)
    said = texts(app)
    facts = prompt_facts(resources.engine(), Question("docs-small-it"))
    assert facts.chat
    assert "<start_of_turn>model\nThe meaning of the word" in facts.text
    assert "no chat format" not in said
    assert "occurs 2 times" in said
    shown = next(it.value for it in app.dataframe if "probability" in it.value)
    assert shown["scale"].tolist() == [0, 1, 1000]
    measures = shown[["probability", "self-similarity", "entropy", "cross-entropy", "score"]]
    assert np.isfinite(measures.to_numpy(float)).all()
    assert "At scale 0" in said
    assert "drowns" in said
    assert "of directions speak as clearly" in said


def test_every_panel_draws_on_gemma(open_page: Open) -> None:
    for panel in ("tuning", "layers", "controls", "compare", "transfer"):
        app = open_page(panel=panel, layers="1,2" if panel == "layers" else "2")
        assert not app.exception, panel
        assert not app.error, (panel, texts(app))
    app = open_page(panel="batch", batch="3, 7-9")
    app.button(key="scope_batch_start").click()
    settle(app)
    assert not app.error, texts(app)
    found = next(it.value for it in app.dataframe if "verdict" in it.value)
    assert found["latent"].tolist() == [3, 7, 8, 9]
    assert found["p"].between(1 / 41 - 1e-3, 1).all()
