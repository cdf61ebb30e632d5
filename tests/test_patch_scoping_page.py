"""The page of patch scoping on a tiny bundle, without a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.descriptions.saved import load_user_descriptions
from core.models import load_model
from core.patch_scoping import peak_tokens, transfer
from core.patch_scoping.prompt import Template, template_prompt
from core.patch_scoping.sweep import SweepConfig, sweep
from core.saes import load_sae_from_disk
from core.settings import Settings
from tests.demo_bundle import write_demo
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
HOOK = "blocks.1.hook_resid_pre"
CHOSEN = {"model": "docs-small", "release": "docs-small-res", "sae": HOOK, "latent": "7"}
ASKED = {
    "template": "own",
    "prompt": "What is {X}?",
    "prefill": '"{X}" is "',
    "tokens": "5",
    "layers": "1",
    "scales": "0 1 4",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("scope-page")
    demo = write_demo(folder / "demo")
    return Settings(cache_dir=folder / "cache", demo_dir=demo, device="cpu")


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    replaced = {(peak_tokens, "SAMPLE_TOKENS"): 3000, (transfer, "SAMPLE_TOKENS"): 1500}
    link = {**CHOSEN, **ASKED}
    with page_server(
        settings,
        "pages/patch-scoping.py",
        link=link,
        replaced=replaced,
    ) as open_link:
        yield open_link


def table(app: AppTest, column: str):
    """The first table that has this column."""
    return next(it.value for it in app.dataframe if column in it.value)


def test_the_texts_are_those_of_the_sweep(open_page: Open, settings: Settings) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error, texts(app)
    shown = table(app, "probability")
    assert shown["scale"].tolist() == [0, 1, 4]
    model = load_model(settings.demo_dir / "models" / "docs-small-it", device="cpu")
    sae = load_sae_from_disk(settings.demo_dir / "saes" / "docs-small-res" / HOOK)
    prompt = template_prompt(model, Template("own", "What is {X}?", '"{X}" is "', '"'))
    config = SweepConfig(layers=(1,), multiples=(0, 1, 4), max_new_tokens=5, n_controls=0)
    found = sweep(model, sae, [7], {"own": prompt}, config)
    assert shown["text"].tolist() == found.table["answer"].tolist()
    said = texts(app)
    assert "Latent 7" in said
    assert "What the model reads" in said
    assert "At scale 0" in said
    assert "random directions" in said.lower()
    assert app.selectbox(key="scope_speaker").value == "docs-small-it"


def test_the_link_carries_the_view_and_bad_parts_cost_a_sentence(open_page: Open) -> None:
    link = {"speaker": "docs-small", "temperature": "0.5", "samples": "2", "unit": "absolute"}
    app = open_page(**link)
    assert not app.error, texts(app)
    assert app.selectbox(key="scope_speaker").value == "docs-small"
    shown = table(app, "probability")
    assert len(shown) == 6
    assert shown["norm"].tolist() == [0, 0, 1, 1, 4, 4]
    for name, value in {**ASKED, **link}.items():
        kept = app.query_params[name]
        assert (kept[0] if isinstance(kept, list) else kept) == value, name
    bad = open_page(speaker="gpt-7", scales="many", panel="cellar", layers="99")
    assert not bad.exception
    assert len(bad.warning) >= 3
    assert len(table(bad, "probability")) == 2 * 7, "two layers by default, on a demo"
    assert "where the latent should stand" in texts(open_page(prompt="What?", prefill=""))


def test_a_prompt_that_leaves_no_room_costs_a_sentence(open_page: Open) -> None:
    app = open_page(tokens="500")
    assert not app.exception
    assert len(app.error) == 1
    assert "Lower max_new_tokens" in app.error[0].value


@pytest.mark.parametrize("panel", ["tuning", "layers", "controls", "compare", "transfer"])
def test_panels_draw(open_page: Open, panel: str) -> None:
    app = open_page(panel=panel, layers="0,1" if panel == "layers" else "1", other="9")
    assert not app.exception
    assert not app.error, (panel, texts(app))
    charts = {"tuning": 2, "layers": 1}.get(panel, 0)
    assert len(app.get("plotly_chart")) == charts
    if panel == "controls":
        assert "random direction 1" in table(app, "latent 7").columns
    if panel == "compare":
        assert "Latent 9" in texts(app)
        assert len(table(app, "latent 9")) == 3
    if panel == "transfer":
        assert table(app, "cosine")["model"].tolist() == ["docs-small", "docs-small-it"]
        assert "SAE" in texts(app)


def test_what_the_text_names_is_scored_against_other_latents(open_page: Open) -> None:
    app = open_page(panel="faithful")
    assert not app.exception
    assert not app.error, texts(app)
    assert "Makes more likely" in texts(app) or "never fires" in texts(app)


def test_a_text_becomes_a_description(open_page: Open, settings: Settings) -> None:
    app = open_page(choose="surest")
    app.button(key="scope_use").click()
    settle(app)
    assert "Saved as your description" in texts(app)
    from core.store.fingerprint import fingerprint_of_sae

    sae = load_sae_from_disk(settings.demo_dir / "saes" / "docs-small-res" / HOOK)
    kept = load_user_descriptions(resources.store(), fingerprint_of_sae(sae), 64)
    assert kept is not None
    shown = table(app, "probability")
    assert kept.texts[7] == shown["text"][shown["probability"].idxmax()]


def test_a_batch_explains_many_latents(open_page: Open) -> None:
    app = open_page(panel="batch", batch="3, 10-13")
    app.button(key="scope_batch_start").click()
    settle(app)
    assert not app.error, texts(app)
    shown = table(app, "verdict")
    assert shown["latent"].tolist() == [3, 10, 11, 12, 13]
    assert "5 latents" in texts(app)
    bad = open_page(panel="batch", batch="70")
    assert "write latents" in texts(bad)
