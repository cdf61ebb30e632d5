"""Does the SAE of a base model fit the model tuned from it: figures, verdict, and the panel."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from core import resources
from core.corpus import default_packing, docs_sample, load_token_set
from core.engine import Engine
from core.models import load_model
from core.patch_scoping import transfer
from core.patch_scoping.transfer import (
    Quality,
    QualitySums,
    measure_quality,
    quality,
    transfer_sentence,
)
from core.saes import encode, load_sae_from_disk, reconstruct
from core.settings import Settings
from core.store import Store
from tests.demo_bundle import write_demo
from tests.page_sessions import page_server, settle, texts

pytestmark = pytest.mark.slow

HOOK = "blocks.1.hook_resid_pre"
SAE = ("docs-small-res", HOOK)
MODELS = ["docs-small", "docs-small-it"]
TOKENS = 1200
ASKED = {
    "model": "docs-small",
    "release": SAE[0],
    "sae": HOOK,
    "latent": "7",
    "panel": "transfer",
    "template": "own",
    "prompt": "What is {X}?",
    "tokens": "4",
    "layers": "1",
    "scales": "1",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("transfer")
    demo = write_demo(folder / "demo")
    return Settings(cache_dir=folder / "cache", demo_dir=demo, device="cpu")


@pytest.fixture(scope="module")
def page(settings: Settings) -> Iterator[AppTest]:
    replaced = {(transfer, "SAMPLE_TOKENS"): TOKENS}
    with page_server(settings, "pages/patch-scoping.py", link=ASKED, replaced=replaced) as open_:
        yield open_()


def plainly(settings: Settings, name: str) -> dict[str, float]:
    """The figures of one model, from runs of single rows without any of our sums."""
    model = load_model(settings.demo_dir / "models" / name, device="cpu", backend="bridge")
    sae = load_sae_from_disk(settings.demo_dir / "saes" / "/".join(SAE))
    packing = replace(default_packing(model, sae), max_tokens=TOKENS)
    rows = load_token_set(docs_sample(), model.tokenizer, packing)
    xs, acts, losses, spliced = [], [], [], []
    for ids, mask in zip(rows.tokens, rows.mask, strict=True):
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        counts = torch.from_numpy(mask)
        logits, cache = model.run_with_cache(tokens)
        x = cache[HOOK][0]
        xs.append(x[counts])
        acts.append((encode(sae, x) > 0).sum(1)[counts])
        rebuilt = torch.where(counts[:, None], reconstruct(sae, x), x)[None]
        swapped = model.run_with_hooks(tokens, fwd_hooks=[(HOOK, lambda *_, to=rebuilt, **__: to)])
        for found, into in ((logits, losses), (swapped, spliced)):
            log_probs = found[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
            into.append(-log_probs[counts[1:]])
    x = torch.cat(xs).double()
    error = (reconstruct(sae, x.float()).double() - x).pow(2).sum()
    return {
        "explained_variance": float(1 - error / (x - x.mean(0)).pow(2).sum()),
        "l0": float(torch.cat(acts).double().mean()),
        "norm": float(x.norm(dim=1).mean()),
        "loss": float(torch.cat(losses).mean()),
        "loss_spliced": float(torch.cat(spliced).mean()),
    }


def test_both_models_are_measured_on_the_same_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from core.catalog import Catalog

    monkeypatch.setattr(transfer, "SAMPLE_TOKENS", TOKENS)
    engine, store = Engine(Catalog(settings), device="cpu"), Store(tmp_path)

    def measured() -> dict[str, Quality]:
        corpus = docs_sample()
        return {it: measure_quality(engine.lease(it, [SAE]), store, corpus) for it in MODELS}

    # Asked for the fit alone, it neither measures losses nor keeps anybody from them afterwards.
    lease = engine.lease(MODELS[0], [SAE])
    alone = measure_quality(lease, store, docs_sample(), losses=False)
    assert np.isnan([alone.loss, alone.loss_spliced, alone.loss_recovered]).all()
    assert repr(measure_quality(lease, store, docs_sample(), losses=False)) == repr(alone)
    found = measured()
    for name in MODELS:
        for figure, value in plainly(settings, name).items():
            assert getattr(found[name], figure) == pytest.approx(value, rel=1e-3), (name, figure)
    assert found["docs-small"] != found["docs-small-it"], "two models, two fits"
    for figure in ("n_tokens", "l0", "explained_variance", "cosine", "norm"):
        assert getattr(alone, figure) == pytest.approx(getattr(found[MODELS[0]], figure)), figure
    # What is stored is what was measured.
    assert measured() == found
    assert measure_quality(lease, store, docs_sample(), losses=False) == found[MODELS[0]]


def test_the_panel_shows_both_and_says_what_they_mean(page: AppTest) -> None:
    assert not page.exception
    assert not page.error, texts(page)
    table = next(it.value for it in page.dataframe if "explained variance" in it.value)
    assert table["model"].tolist() == MODELS
    found = next(
        job.result()
        for view in resources.jobs().jobs()
        if view.key.startswith("sae-quality:")
        and (job := resources.jobs().get(view.key)) is not None
    )
    shown = [f"{found[name].explained_variance:.1%}" for name in MODELS]
    assert table["explained variance"].tolist() == shown
    assert table["loss recovered"].tolist() == [f"{found[it].loss_recovered:.1%}" for it in MODELS]
    assert transfer_sentence(found["docs-small"], found["docs-small-it"]) in texts(page)


def test_the_base_model_alone_is_compared_with_nothing(page: AppTest) -> None:
    page.selectbox(key="scope_speaker").set_value("docs-small")
    settle(page)
    assert not page.error, texts(page)
    table = next(it.value for it in page.dataframe if "explained variance" in it.value)
    assert table["model"].tolist() == ["docs-small"]
    assert "carry over" not in texts(page)
    assert "carries over" not in texts(page)


@pytest.mark.parametrize(
    ("tuned", "verdict"),
    [
        (0.90, "The SAE carries over to the tuned model"),
        (0.85, "The SAE carries over to the tuned model"),
        (0.84, "in part"),
        (0.71, "in part"),
        (0.60, "does not carry over"),
        (-0.5, "does not carry over"),
    ],
)
def test_the_verdict_follows_the_variance_that_is_lost(tuned: float, verdict: str) -> None:
    base = Quality(100, 7.0, 0.899, 0.95, 10.0, 2.5, 2.7, 0.95)
    sentence = transfer_sentence(base, replace(base, explained_variance=tuned))
    assert verdict in sentence
    assert f"{tuned:.0%}" in sentence
    assert "90%" in sentence


def test_a_site_that_never_varies_has_no_variance_to_explain() -> None:
    ones = np.ones(4)
    sums = QualitySums(n=3, squares=12, total=3 * ones, n_predicted=2, loss=1, loss_ablated=1)
    found = quality(sums)
    assert np.isnan(found.explained_variance)
    assert np.isnan(found.loss_recovered)
