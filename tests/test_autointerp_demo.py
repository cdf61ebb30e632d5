"""On the shipped demo, with no key: explanations of latents are better than those of controls."""

from pathlib import Path

import numpy as np
import pytest

from core.autointerp import AutoInterpConfig, LexicalExplainer, LexicalJudge
from core.autointerp.controls import CONTROLS, control_sae
from core.autointerp.examples import split_windows
from core.autointerp.explain import Roles, explain_and_score
from core.autointerp.gather import Part, gather_windows
from core.autointerp.patch_scoping import explain_by_model
from core.autointerp.request import RunRequest
from core.autointerp.roles import Evidence, Material
from core.autointerp.view import AutointerpView
from core.corpus import default_packing, docs_sample, load_token_set
from core.lease import PlainLease
from core.models import Model, load_model
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY
from core.store import Store

pytestmark = pytest.mark.slow

DEMO = REPOSITORY / "demo"
N_LATENTS = 64
TOKENS = 40_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(DEMO / "models" / "docs-small")


def test_latents_are_explained_better_than_controls(model: Model) -> None:
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    packing = default_packing(model, sae, max_tokens=TOKENS)
    token_set = load_token_set(docs_sample(), model.tokenizer, packing)
    drawn = np.random.default_rng(0).permutation(sae.cfg.d_sae)[: 2 * N_LATENTS].tolist()
    cfg = AutoInterpConfig(drawn, total_tokens=TOKENS, scoring=True)
    parts = [Part(drawn)]
    for kind in CONTROLS:
        control, units = control_sae(kind, model, sae, drawn[:N_LATENTS], token_set)
        parts.append(Part(units, control))
    windows = gather_windows(PlainLease(model, [sae]), token_set, cfg, parts)
    found_by: dict[str, np.ndarray] = {}
    for kind, gathered in zip(("latents", *CONTROLS), windows, strict=True):
        alive = [unit for unit, windows in gathered.items() if len(windows.top)][:N_LATENTS]
        own = AutoInterpConfig(alive, scoring=True)
        generation, scoring = split_windows(gathered, own, model)
        roles = Roles(LexicalExplainer(generation), LexicalJudge())
        materials = {it: Material(Evidence(it, generation[it]), scoring[it]) for it in alive}
        results = explain_and_score(materials, roles)
        assert {result["status"] for result in results.values()} <= {"scored", "unscored", "failed"}
        scores = [result["numbers"]["balanced_accuracy"] for result in results.values()]
        told = np.array([score for score in scores if score is not None])
        assert len(told) > N_LATENTS // 2
        found_by[kind] = told
    own_scores = found_by.pop("latents")
    assert all(own_scores.mean() > told.mean() for told in found_by.values())
    others = np.concatenate(list(found_by.values()))
    error = np.hypot(
        own_scores.std(ddof=1) / np.sqrt(len(own_scores)),
        others.std(ddof=1) / np.sqrt(len(others)),
    )
    assert own_scores.mean() - others.mean() > 3 * error


def test_the_tuned_model_explains_latents_by_itself(tmp_path: Path) -> None:
    tuned = load_model(DEMO / "models" / "docs-small-it")
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    view = AutointerpView(explainer="scope")
    request = RunRequest(
        model="docs-small",
        sae=("docs-small-res", "blocks.2.hook_resid_pre"),
        version="1",
        latent=3,
        view=view,
        corpus=docs_sample(),
        speaker="docs-small-it",
        demo=True,
    )
    lease = PlainLease(tuned, [sae])
    found, controls = explain_by_model(lease, Store(tmp_path), request, [3, 7, 11], {})
    assert controls == {}
    assert found.keys() <= {3, 7, 11}
    assert len(found) >= 2
    for explained in found.values():
        assert explained.text in explained.raw
        assert any(map(str.isalpha, explained.text))
        assert explained.messages[0]["role"] == "user"
    assert len({explained.text for explained in found.values()}) > 1
