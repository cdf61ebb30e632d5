"""The autointerp page on a tiny bundle, without a browser, offline and with a loopback service."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.autointerp import patch_scoping
from core.autointerp.controls import CONTROLS, control_sae
from core.autointerp.patch_scoping import explanations_of_sweep
from core.autointerp.record import load_record
from core.autointerp.tables import jsonl_bytes, neuronpedia_bytes, results_table
from core.corpus import default_packing, docs_sample, load_token_set
from core.models import load_model
from core.patch_scoping.injection import unit_directions
from core.patch_scoping.prompt import template_prompt
from core.patch_scoping.sweep import SweepConfig, sweep_directions
from core.patch_scoping.view import ScopeView, parse_scales
from core.saes import load_sae_from_disk
from core.settings import Settings
from tests.demo_bundle import write_demo
from tests.loopback_openai import GOOD_KEY, LoopbackOpenAI, loopback_openai
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
HERE = {"release": "docs-small-res", "sae": "blocks.1.hook_resid_pre", "latent": "7"}
SMALL = {"tokens": "3000", "n": "4", "buffer": "4"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("autointerp-page")
    return Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(),
    )


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
            patch.delenv(name, raising=False)
        # The tiny models have 64 positions: a short question and a short answer fit.
        replaced = {(patch_scoping, "ScopeView"): partial(ScopeView, template="free", new_tokens=6)}
        with page_server(settings, "pages/autointerp.py", replaced=replaced) as open_link:
            yield open_link


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        running.reply = lambda body: (
            "1, 2"
            if "numbered texts" in body["messages"][0]["content"]
            else "It activates on rivers."
        )
        yield running


def run_id(app: AppTest) -> str:
    value = app.query_params["run"]
    return value[0] if isinstance(value, list) else value


def click(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click()
    return settle(settle(app))


def record(app: AppTest) -> dict[str, Any]:
    found = load_record(resources.store(), run_id(app))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def offline(open_page: Open) -> AppTest:
    """A finished offline run with controls."""
    app = open_page(**HERE, **SMALL, scores="fuzzing,neighbours")
    assert not app.exception
    assert not app.error, texts(app)
    return click(app, "ai_run")


def test_an_offline_run_with_controls(offline: AppTest, open_page: Open) -> None:
    assert not offline.exception
    assert not offline.error, texts(offline)
    found = record(offline)
    assert found["status"] == "done"
    assert len(found["results"]) == 4
    assert found["service"] == ""
    assert set(found["controls"]) == {"neurons", "random directions", "random weights"}
    table = next(it.value for it in offline.dataframe if "all_none" in it.value)
    assert table["latent"].tolist() == found["latents"]
    assert {"accuracy", "balanced_accuracy", "f1", "interval", "fuzzing"} <= set(table)
    assert len(offline.get("plotly_chart")) == 1
    assert "knowing nothing" in texts(offline)
    # The link alone shows the same in another session, without computing.
    again = open_page(**HERE, run=run_id(offline))
    other = next(it.value for it in again.dataframe if "all_none" in it.value)
    assert other.equals(table)


def test_every_part_and_panel_draws(offline: AppTest) -> None:
    for part in ("shown", "scores", "prompts", "edit", "scoring"):
        offline.segmented_control(key="ai_part").set_value(part)
        settle(offline)
        assert not offline.exception
        assert not offline.error, (part, texts(offline))
    for panel in ("compare", "files", "histogram"):
        offline.segmented_control(key="ai_panel").set_value(panel)
        settle(offline)
        assert not offline.exception
        assert not offline.error, (panel, texts(offline))


def test_an_edited_explanation_is_a_run_of_its_own(open_page: Open, offline: AppTest) -> None:
    parent = record(offline)
    latent = parent["latents"][0]
    app = open_page(**{**HERE, "latent": str(latent)}, **SMALL, run=parent["id"])
    app.segmented_control(key="ai_part").set_value("edit")
    settle(app)
    app.text_area(key=f"ai_edit_{parent['id']}_{latent}").set_value('the word "numpy"')
    click(app, "ai_rescore")
    assert not app.error, texts(app)
    mine = record(app)
    assert mine["id"] != parent["id"]
    assert mine["results"][str(latent)]["explanation"] == 'the word "numpy"'
    others = [str(it) for it in parent["latents"][1:]]
    assert all(mine["results"][it] == parent["results"][it] for it in others)
    assert load_record(resources.store(), parent["id"]) == parent
    app.segmented_control(key="ai_panel").set_value("compare")
    settle(app)
    app.selectbox(key="ai_other").set_value(parent["id"])
    settle(app)
    assert "on average" in texts(app)


def test_explanations_become_descriptions_and_files(offline: AppTest) -> None:
    from core.descriptions.saved import forget_user_descriptions, load_user_descriptions

    found = record(offline)
    offline.segmented_control(key="ai_panel").set_value("files")
    settle(offline)
    click(offline, "ai_use")
    saved = load_user_descriptions(resources.store(), found["fingerprint"], found["d_sae"])
    assert saved is not None
    for latent in found["latents"]:
        assert saved.texts[latent] == (found["results"][str(latent)]["explanation"] or "")
    forget_user_descriptions(resources.store(), found["fingerprint"])
    lines = jsonl_bytes(found).decode().splitlines()
    assert [json.loads(line)["latent"] for line in lines] == found["latents"]
    rows = [json.loads(line) for line in neuronpedia_bytes(found, "docs/1-res").splitlines()]
    assert {(row["modelId"], row["layer"]) for row in rows} == {("docs", "1-res")}
    assert [int(row["index"]) for row in rows] == [
        row["latent"] for row in results_table(found).to_dict("records") if row["explanation"]
    ]


def test_lists_of_latents_come_by_link_and_bad_links_cost_a_sentence(open_page: Open) -> None:
    app = open_page(**HERE, latents="3,7,10-12")
    assert app.selectbox(key="ai_choose").value == "list"
    assert app.text_input(key="ai_latents").value == "3, 7, 10-12"
    bad = open_page(**HERE, latents="3-", run="../../etc", explainer="magic", tokens="-5")
    assert not bad.exception
    assert len(bad.warning) == 4
    gone = open_page(**HERE, run="0123456789abcdef")
    assert "not kept" in texts(gone)
    much = open_page(**HERE, **SMALL, latents="63-70")
    click(much, "ai_run")
    assert "There is no latent 70" in texts(much)


def test_examples_come_from_a_text_of_ones_own(open_page: Open) -> None:
    app = open_page(**{**HERE, **SMALL, "n": "2", "controls": "0"})
    assert "Documentation of the installed packages" in texts(app)
    app.segmented_control(key="ai_text_source_docs").set_value("text").run()
    mine = "A zebra crosses the quiet river at noon. " * 60
    app.text_area(key="ai_text_pasted").set_value(mine).run()
    click(app, "ai_text_use")
    assert not app.error, texts(app)
    assert "Examples come from: Pasted text" in texts(app)
    click(app, "ai_run")
    found = record(app)
    assert found["corpus"] == "Pasted text"
    shown = [it for one in found["results"].values() for it in one["shown"] + one["scoring"]]
    assert shown
    # The text is longer than a row: windows may begin anywhere in it, and hold nothing else.
    assert all("".join(it["tokens"]) in mine for it in shown)
    # A hand-written explanation is scored on the same text.
    latent = next(int(name) for name, one in found["results"].items() if one["scoring"])
    view = {"latent": str(latent), "run": found["id"], "corpus": found["settings"]["corpus"]}
    mine_too = open_page(**{**HERE, **SMALL, **view})
    mine_too.segmented_control(key="ai_part").set_value("edit")
    settle(mine_too)
    mine_too.text_area(key=f"ai_edit_{found['id']}_{latent}").set_value('the word "zebra"')
    click(mine_too, "ai_rescore")
    assert record(mine_too)["corpus"] == "Pasted text"
    gone = open_page(**HERE, **SMALL, corpus="text:" + "0" * 20 + "-pasted.txt")
    assert "not on this server any more" in texts(gone)


def test_a_model_explains_latents_and_controls_alike(open_page: Open, settings: Settings) -> None:
    app = open_page(**{**HERE, **SMALL, "n": "3", "explainer": "scope"})
    assert not app.error, texts(app)
    assert "docs-small-it is asked for the meaning of each latent" in texts(app)
    assert "takes a definition literally" in texts(app)
    click(app, "ai_run")
    assert not app.error, texts(app)
    found = record(app)
    assert found["speaker"] == "docs-small-it"
    assert "docs-small-it says:" in texts(app)
    controls = next(it.value for it in app.dataframe if "kind" in it.value)
    told = [one["explanation"] or "" for kind in CONTROLS for one in found["controls"][kind]]
    assert controls["explanation"].tolist() == told
    assert found["status"] == "done"
    # Each text is the automatic one of the page of patch scoping, of the tuned model.
    model = load_model(settings.demo_dir / "models" / "docs-small-it", device="cpu")
    sae = load_sae_from_disk(settings.demo_dir / "saes" / "docs-small-res" / HERE["sae"])
    token_set = load_token_set(docs_sample(), model.tokenizer, default_packing(model, sae))
    for kind in ("latents", *CONTROLS):
        if kind == "latents":
            said = {int(it): one["explanation"] for it, one in found["results"].items()}
            directions = unit_directions(model, sae, list(said))
        else:
            said = {one["unit"]: one["explanation"] for one in found["controls"][kind]}
            base = load_model(settings.demo_dir / "models" / "docs-small", device="cpu")
            control, units = control_sae(kind, base, sae, found["latents"], token_set)
            assert kind == "random weights" or units == list(said)
            directions = unit_directions(model, control, list(said))
        prompt = template_prompt(model, "free")
        scales = parse_scales(ScopeView().scales)
        config = SweepConfig(layers=(1, 2), multiples=scales, max_new_tokens=6, n_controls=0)
        swept = sweep_directions(model, list(said), directions, {"free": prompt}, config)
        expected = explanations_of_sweep(swept.table, prompt.text, "likeliest")
        assert said == {it: expected[it].text if it in expected else None for it in said}, kind


def test_a_chat_run_asks_after_the_estimate_and_hides_the_key(
    open_page: Open, service: LoopbackOpenAI, settings: Settings, caplog: Any
) -> None:
    app = open_page(
        **HERE,
        latents="3,7",
        explainer="chat",
        judge="chat",
        tokens="3000",
        buffer="4",
        controls="0",
    )
    assert "Set up the chat service" in texts(app)
    app.text_input(key="ai_service_url").set_value(service.url)
    app.text_input(key="ai_service_key").set_value(GOOD_KEY)
    app.number_input(key="ai_service_prompt_price").set_value(1.0)
    settle(app)
    click(app, "ai_prepare")
    assert not app.error, texts(app)
    assert service.questions() == []
    labels = {metric.label: metric.value for metric in app.metric}
    assert labels["Questions"] == "4"
    assert labels["Cost, at most"].startswith("$0.0")
    click(app, "ai_run")
    assert not app.error, texts(app)
    assert len(service.questions()) == 4
    found = record(app)
    assert [found["results"][it]["explanation"] for it in ("3", "7")] == ["rivers"] * 2
    assert found["spending"]["calls"] == 4
    assert found["service"] == service.url
    secret = GOOD_KEY.encode()
    for file in settings.cache_dir.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes(), file
    assert GOOD_KEY not in str(dict(app.query_params)) + texts(app) + caplog.text
    assert GOOD_KEY not in json.dumps(found)


def test_the_servers_key_never_goes_to_a_typed_address(
    open_page: Open, service: LoopbackOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    app = open_page(
        **HERE, latents="5", explainer="chat", judge="chat", tokens="3000", buffer="4", controls="0"
    )
    app.text_input(key="ai_service_url").set_value(service.url)
    settle(app)
    click(app, "ai_prepare")
    click(app, "ai_run")
    assert service.keys
    assert set(service.keys) == {"none"}
    assert "refused the key" in record(app)["results"]["5"]["error"]
