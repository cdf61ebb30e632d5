"""The tabs of the latent page that analyse: prompt, logit lens, token enrichment, attribution."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from streamlit.testing.v1 import AppTest

from core import resources
from core.enrichment import run as enrichment
from core.enrichment.user_sets import WordList, store_lists
from core.firings.kept import kept_firings
from core.lease import PlainLease
from core.prompt_latents import ablation_effects, active_latents
from core.prompt_latents.ablation import ablate
from core.prompt_latents.active import read_prompt
from core.prompt_latents.ranking import latents_table, ranked, strongest_per_token
from core.saes import load_sae_from_disk
from core.settings import Settings
from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
RESIDUAL = {"release": "docs-small-res", "sae": "blocks.1.hook_resid_pre", "latent": "7"}
HEADS = {"release": "docs-small-hook-z", "sae": "blocks.1.hook_z", "latent": "5"}
NASTY = "<b>bold</b> $x$ **a** 😀 שלום \x07 [link](http://example.org) </div>"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("latent-tabs")
    sae = make_sae(
        "topk", d_in=D_MODEL, d_sae=40, hook_name="blocks.2.hook_resid_pre", model_name="docs-small"
    )
    sae.W_dec.data[3] = 0.0  # pushes no token at all
    write_sae(sae, folder / "mine" / "topk")
    return Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(folder / "mine",),
    )


@pytest.fixture(scope="module")
def open_tab(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    replaced = {(enrichment, "N_CONTROLS"): 60}
    link = {"tokens": "3000"}
    with page_server(settings, "pages/latent.py", link=link, replaced=replaced) as open_link:
        yield lambda tab, **parameters: open_link(tab=tab, **parameters)


def fine(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    assert not app.error, texts(app)
    return app


def table(app: AppTest, column: str):
    return next(it.value for it in app.dataframe if column in it.value)


def test_lens_shows_the_moments_of_the_weights(open_tab: Open, settings: Settings) -> None:
    app = fine(open_tab("lens", **RESIDUAL))
    assert len(app.get("plotly_chart")) == 2
    sae = load_sae_from_disk(settings.demo_dir / "saes" / "docs-small-res" / RESIDUAL["sae"])
    with resources.engine().use("docs-small") as (model, _):
        logits = (sae.W_dec[7] @ model.W_U).numpy()
    shown = {it.label: float(it.value) for it in app.metric}
    assert shown["Standard deviation"] == pytest.approx(logits.std(), abs=6e-4)
    assert shown["Skewness"] == pytest.approx(stats.skew(logits), abs=6e-4)
    assert shown["Excess kurtosis"] == pytest.approx(stats.kurtosis(logits), abs=6e-4)
    assert table(app, "effect")["effect"].max() == pytest.approx(logits.max())
    app = fine(open_tab("lens", lens="density", **RESIDUAL))
    assert app.query_params["lens"] in ("density", ["density"])


def test_flat_latent_and_sae_of_heads(open_tab: Open) -> None:
    flat = {"release": "mine", "sae": "topk", "latent": "3"}
    app = fine(open_tab("lens", **flat))
    assert "pushes all tokens alike" in texts(app)
    app = fine(open_tab("enrichment", **flat))
    assert "pushes all tokens alike" in texts(app)
    fine(open_tab("lens", **HEADS))


def test_enrichment_of_all_latents(open_tab: Open) -> None:
    app = fine(open_tab("enrichment", beyond="0", **RESIDUAL))
    assert len(app.get("plotly_chart")) == 2
    assert "All 64 latents" in texts(app)
    pairs = table(app, "latent")
    assert pairs["log10_p"].is_monotonic_decreasing
    own = table(app, "score")
    assert "latent" not in own
    app = fine(open_tab("enrichment", set="all digits", weighted="1", **RESIDUAL))
    assert "all digits" in texts(app)


def test_sets_of_the_user_travel_by_link(open_tab: Open) -> None:
    lists = [WordList("mine <b>", ("the", "nosuchword")), WordList("none", ("zzzz",))]
    fine(open_tab("enrichment", **RESIDUAL))
    name = store_lists(resources.store(), lists)
    app = fine(open_tab("enrichment", sets=name, set="mine <b>", **RESIDUAL))
    said = texts(app)
    assert "nosuchword" in said
    assert "No token of this model is in none" in said
    assert "mine <b>" in table(app, "score")["set"].tolist()
    assert "mine \\<b\\>" in said
    gone = open_tab("enrichment", sets="f" * 24, **RESIDUAL)
    assert not gone.exception
    assert "not on this server" in texts(gone)


@pytest.mark.parametrize("rank", ["activation", "quantile", "effect"])
def test_prompt_ranks_latents(open_tab: Open, rank: str) -> None:
    app = fine(open_tab("prompt", prompt="the river runs", rank=rank, remove="5", **RESIDUAL))
    assert "latents are active in the text" in texts(app)
    listed = table(app, "activation")
    assert listed[rank].notna().any()
    assert app.query_params["prompt"] in ("the river runs", ["the river runs"])
    per_token = table(app, "active")
    assert "".join(per_token["token"]).replace("␣", " ") == "the river runs"


def test_one_token_of_a_prompt_and_a_click_through(open_tab: Open) -> None:
    app = fine(open_tab("prompt", prompt="the river runs", at="2", **RESIDUAL))
    assert "are active at token 2" in texts(app)
    app.button(key="prompt_dashboard").click()
    settle(app)
    assert app.query_params.get("tab") in (None, [], "dashboard")


@pytest.mark.parametrize("tab", ["prompt", "sources"])
def test_any_text_displays(open_tab: Open, tab: str) -> None:
    which = {"prompt": RESIDUAL, "sources": HEADS}[tab]
    name = {"prompt": "prompt", "sources": "source"}[tab]
    for text in (NASTY, " ", "a", "word " * 300):
        app = fine(open_tab(tab, example="0", **{name: text}, **which))
        if text.startswith("word"):
            assert any("left out" in it.value for it in app.warning)
        for frame in app.get("html"):
            assert "<b>bold" not in str(frame.proto.body if hasattr(frame, "proto") else frame)


def test_attribution_on_heads_and_a_sentence_elsewhere(open_tab: Open) -> None:
    app = fine(open_tab("sources", example="0", source="the river runs", to="2", **HEADS))
    assert "All heads and tokens together" in texts(app)
    assert len(app.get("plotly_chart")) == 1
    elsewhere = fine(open_tab("sources", **RESIDUAL))
    assert any("attention heads" in it.value for it in elsewhere.info)


def test_examples_of_the_index_feed_attribution(open_tab: Open) -> None:
    fine(open_tab("dashboard", **HEADS))
    app = fine(open_tab("sources", example="2", **HEADS))
    assert app.selectbox(key="sources_example").value == 2
    assert "All heads and tokens together" in texts(app)


def test_ablation_in_leases_is_that_in_one_go(open_tab: Open, settings: Settings) -> None:
    fine(open_tab("prompt", **RESIDUAL))
    engine, name = resources.engine(), (RESIDUAL["release"], RESIDUAL["sae"])
    lease = engine.lease("docs-small", [name])
    read = read_prompt(lease, "the river runs under the bridges")
    found = ablate(lease, read, 12)
    with engine.use("docs-small", [name]) as (model, (sae,)):
        tokens = model.to_tokens("the river runs under the bridges")
        whole = ablation_effects(model, sae, tokens, found.latents)
        again = active_latents(model, sae, tokens)
    np.testing.assert_allclose(found.increase, whole.increase, atol=1e-5)
    assert found.latents.tolist() == again.per_latent()["latent"].tolist()[:12]
    listed = ranked(latents_table(read, position=3, effects=found), "effect")
    measured = listed["effect"].dropna().abs()
    assert measured.is_monotonic_decreasing
    row = listed.iloc[0]
    column = found.latents.tolist().index(row["latent"])
    assert row["effect"] == pytest.approx(found.increase[column, 3])
    per_token = strongest_per_token(read, k=2)
    here = again.at(3)
    assert per_token["latents"][2][0].startswith(f"{here['latent'][0]} (")
    json.dumps(per_token["latents"].tolist())


def test_bad_links_cost_a_sentence(open_tab: Open) -> None:
    app = open_tab("prompt", rank="taste", at="-3", **RESIDUAL)
    assert not app.exception
    assert sum("cannot be used" in it.value for it in app.warning) == 2


def test_all_saes_are_searched_at_once(open_tab: Open, settings: Settings) -> None:
    text = "the mean of an array"
    app = fine(open_tab("find", seek=text, best="activation", **RESIDUAL))
    table = app.dataframe[0].value
    with resources.engine().use("docs-small", [("docs-small-res", RESIDUAL["sae"])]) as (
        model,
        [own],
    ):
        read = read_prompt(PlainLease(model, [own]), text)
    mine = table[table["name"] == RESIDUAL["sae"]]
    alone = read.active.per_latent().set_index("latent")["activation"]
    assert len(mine) > 0
    np.testing.assert_allclose(mine["activation"], alone.loc[mine["latent"]], rtol=1e-4)
    assert table["activation"].is_monotonic_decreasing
    assert "8 SAEs fire on" in texts(app)
    assert "specificity" not in table.columns, "nothing is known of how often they fire"
    app = fine(open_tab("find", find="regex", seek="a.", **RESIDUAL))
    assert "none was. Keep them below" in texts(app)
    (keep,) = [it for it in app.button if it.label.startswith("Keep every firing of 8 SAEs")]
    keep.click()
    app = fine(settle(app))
    kept = kept_firings(resources.store().directory, model="docs-small")
    said = float(re.search(r"about ([\d.]+) MB", keep.label)[1])
    assert said * 1e6 == pytest.approx(sum(one.n_bytes for one in kept), rel=0.2)
    app = fine(open_tab("find", find="regex", seek="a.", **RESIDUAL))
    assert "Every firing is kept of 8 of 8 SAEs" in app.expander[-1].label
    found = app.dataframe[0].value
    assert found["specificity"].is_monotonic_decreasing
    assert found["where"].str.contains("⟦").all()
    assert "Latent 7 fires on" in texts(app)
    app = fine(open_tab("find", find="regex", seek="a.", silent="1", **RESIDUAL))
    instead = app.dataframe[0].value
    assert not ((instead["name"] == RESIDUAL["sae"]) & (instead["latent"] == 7)).any()
    assert int(instead["fired"].max()) <= int(found["fired"].max())
    app = fine(open_tab("find", find="latent", **RESIDUAL))
    assert (app.dataframe[0].value["latent"] == 7).any(), "it fires where it fires"
    app = open_tab("find", find="regex", seek="(?=a)", **RESIDUAL)
    assert "look-around" in texts(app)
    (delete,) = [it for it in app.button if it.label.startswith("Delete these")]
    delete.click()
    app.run()
    assert kept_firings(resources.store().directory) == []
    assert "are free again" in texts(app)
