"""Patch scoping on an imitation of Gemma: its architecture, its chat format, bf16."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.models import Model, load_model
from core.patch_scoping import SweepConfig, scale_tuning, sweep, template_prompt
from core.patch_scoping.controls import UNTOUCHED, control_sweep
from tests.builders import make_sae
from tests.tiny_gemma import write_tiny_gemma

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
    assert set(found.standings) == {(it, "definition") for it in (3, 9)}
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
