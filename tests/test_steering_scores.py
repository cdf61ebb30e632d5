"""Scores of all latents under a lease, and in the table of all latents on the page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.activations import open_index
from core.activations.text_index import IndexRequest, make_index
from core.corpus.documents import Corpus, Document
from core.jobs.progress import JobCancelled, Progress
from core.latent.all_latents import latent_table
from core.lease import PlainLease
from core.models import Model, load_model
from core.patch_scoping.sampling import Sampling
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.splitting import scores as scores_of_map
from core.steering import score_run
from core.steering.intervention import Place
from core.steering.request import SteerRequest
from core.steering.run import run_steering
from core.steering.score_run import run_scores
from core.steering.scores import ScoreConfig, output_scores
from core.store import Store
from tests.builders import make_sae
from tests.demo_bundle import write_demo
from tests.page_sessions import page_server, settle, texts

HOOK = "blocks.1.hook_resid_pre"
CONFIG = ScoreConfig(prompts=("The city", "In 1998"), n_random=9, n_tokens=5, kl=0.2)
WORDS = ("array", "axis", "the river", "in 1998", "Mary", "returns", "the mean", "of a city")


def texts_of(seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=20))


CORPUS = Corpus(
    "Some texts",
    "digest of texts to steer",
    lambda: iter([Document(f"text {it}", texts_of(it)) for it in range(40)]),
)


def test_scores_in_turns_are_scores_at_once(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_run, "_STEP", 7)
    sae = make_sae("standard", d_in=32, d_sae=20, hook_name=HOOK)
    store, lease = Store(tmp_path), PlainLease(tiny_model, [sae])
    request = IndexRequest("tiny", (("a", HOOK, ""),), CORPUS, 2000)
    [opened] = make_index(lease, store, request)
    found = run_scores(lease, store, opened, CONFIG)
    own, null = output_scores(tiny_model, sae, config=CONFIG)
    np.testing.assert_allclose(found.output.authors, own.authors, atol=1e-5)
    np.testing.assert_allclose(found.output.calibrated, own.calibrated, atol=1e-4)
    np.testing.assert_allclose(found.output_null, null.calibrated, atol=1e-4)
    # Input scores by hand: the token under each text's strongest position.
    whole = open_index(store, opened.key)
    assert whole is not None
    rows = opened.token_set
    for latent in range(20):
        places = whole.top_places[latent]
        peaks = [int(rows.tokens[divmod(int(it), rows.context)]) for it in places if it >= 0]
        if len(peaks) < 10:
            assert np.isnan(found.input_score[latent])
            continue
        hits = [it in own.tokens[latent] for it in peaks]
        assert found.input_score[latent] == pytest.approx(np.mean(hits))
    assert np.isfinite(found.input_score).any()
    table = found.table()
    assert len(table) == 20
    again = run_scores(lease, store, opened, CONFIG)
    np.testing.assert_array_equal(again.output.calibrated, found.output.calibrated)
    # On the map they are the same, by the label of the SAE.
    monkeypatch.setattr(scores_of_map, "SPLIT_TOKENS", 2000)
    member = SimpleNamespace(label="mine", entry=SimpleNamespace(key=("a", HOOK), version=""))
    asked: Any = SimpleNamespace(model="tiny", members=(member,), corpus=CORPUS)
    default = run_scores(lease, store, opened)
    wanted = {"output": default.output.calibrated, "input": default.input_score}
    for kind, values in wanted.items():
        [(label, shown)] = scores_of_map.score_of(lease, store, asked, kind).items()
        assert label == "mine"
        np.testing.assert_array_equal(shown, values)


def test_a_cancelled_run_stops(tiny_model: Model, tmp_path: Path) -> None:
    progress = Progress()
    sae = make_sae("standard", d_in=32, d_sae=20, hook_name=HOOK)
    store = Store(tmp_path)
    request = IndexRequest("tiny", (("a", HOOK, ""),), CORPUS, 2000)
    [opened] = make_index(PlainLease(tiny_model, [sae]), store, request)
    progress.cancel()
    with pytest.raises(JobCancelled):
        run_scores(PlainLease(tiny_model, [sae], progress=progress), store, opened, CONFIG)


def test_the_table_sorts_and_filters_by_scores() -> None:
    n = 5
    summary = pd.DataFrame(
        {
            "latent": range(n),
            "count": [3, 0, 5, 2, 1],
            "frequency": np.full(n, 0.1),
            "log10_frequency": np.full(n, -1.0),
            "mean": np.ones(n),
            "max": np.ones(n),
            "skew": np.zeros(n),
        }
    )
    scores = pd.DataFrame(
        {
            "latent": range(n),
            "input_score": [0.1, np.nan, 0.9, 0.5, 0.2],
            "output_score": [0.2, 0.9, 0.1, 0.3, np.nan],
            "output_p": [0.04, 0.01, 0.5, 0.05, np.nan],
        }
    )
    by_output = latent_table(summary, order="output", scores=scores)
    assert by_output["latent"].tolist() == [1, 3, 0, 2, 4]
    assert latent_table(summary, order="input", scores=scores)["latent"].tolist()[:3] == [2, 3, 4]
    beyond = latent_table(summary, kind="steer", scores=scores)
    assert beyond["latent"].tolist() == [0, 3, 1]  # those that never fired last
    assert len(latent_table(summary, order="output", kind="steer")) == n  # none were made


@pytest.mark.slow
def test_the_page_makes_them_at_a_click(tmp_path: Path) -> None:
    demo = write_demo(tmp_path / "demo")
    settings = Settings(cache_dir=tmp_path / "cache", demo_dir=demo, device="cpu")
    link = {"tokens": "3000", "release": "docs-small-res", "sae": HOOK, "tab": "browse"}
    with page_server(settings, "pages/latent.py", link=link) as open_link:
        app = open_link(order="output")
        assert "have not been made yet" in texts(app)
        app.button(key="latent_score_all").click()
        settle(app)
        assert not app.exception
        assert not app.error, texts(app)
        shown = next(it.value for it in app.dataframe if "output_score" in it.value)
        assert "random directions (chance would give" in texts(app)
    model = load_model(demo / "models" / "docs-small", device="cpu")
    sae = load_sae_from_disk(demo / "saes" / "docs-small-res" / HOOK)
    own, _ = output_scores(model, sae)
    best = int(np.nanargmax(own.calibrated))
    assert shown["latent"].iloc[0] == best
    assert shown["output_authors"].iloc[0] == pytest.approx(own.authors[best], abs=1e-5)


def test_a_transcoder_is_steered_and_says_what_that_means(
    tiny_model: Model, tmp_path: Path
) -> None:
    sae = make_sae(
        "transcoder",
        d_in=32,
        d_sae=20,
        hook_name="blocks.1.ln2.hook_normalized",
        hook_name_out="blocks.1.hook_mlp_out",
    )
    request = SteerRequest(
        model="tiny",
        sae=("a", "b"),
        sae_version="",
        groups=((3,), (4,)),
        prompt="The river",
        chat=True,
        mode="set",
        unit="kl",
        strengths=(0.1,),
        place=Place("after"),
        largest=(),
        sampling=Sampling(),
        new_tokens=4,
        n_random=1,
    )
    found = run_steering(PlainLease(tiny_model, [sae]), Store(tmp_path), request)
    assert "the rest of it is kept" in found.notes[0]
    steered = found.rows[found.rows["kind"] == "latent"]
    assert steered["kl"].tolist() == pytest.approx([0.1, 0.1], rel=0.021)
    assert found.rows["kind"].tolist() == ["unsteered", *["latent", "random"] * 2]
    own, _ = output_scores(tiny_model, sae, config=CONFIG)
    assert np.isfinite(own.authors).all()
