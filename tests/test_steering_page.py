"""The page of steering on a tiny bundle, without a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.dossier.kept_steering import load_steering
from core.models import load_model
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.steering import Intervention, steer
from core.store.fingerprint import fingerprint_of_sae
from tests.demo_bundle import write_demo
from tests.loopback_openai import GOOD_KEY, loopback_openai
from tests.page_sessions import Open, page_server, settle, texts

HOOK = "blocks.1.hook_resid_pre"
LINK = {
    "model": "docs-small",
    "release": "docs-small-res",
    "sae": HOOK,
    "latent": "7",
    "prompt": "The river runs",
    "unit": "absolute",
    "strengths": "2 8",
    "tokens": "5",
    "randoms": "1",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("steer-page")
    demo = write_demo(folder / "demo")
    return Settings(cache_dir=folder / "cache", demo_dir=demo, device="cpu")


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    with page_server(settings, "pages/steering.py", link=LINK) as open_link:
        yield open_link


def table(app: AppTest):
    """The table of strengths."""
    return next(it.value for it in app.dataframe if "KL" in it.value)


@pytest.mark.slow
def test_the_texts_are_those_of_a_notebook(open_page: Open, settings: Settings) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error, texts(app)
    shown = table(app)
    assert shown["what"].tolist() == ["unsteered", "latent", "random", "latent", "random"]
    assert shown["activation"].tolist()[1:] == [2, 2, 8, 8]
    assert shown["KL"].iloc[0] == pytest.approx(0, abs=1e-5)
    assert shown["KL"].iloc[3] > shown["KL"].iloc[1] > 0
    model = load_model(Path(settings.demo_dir) / "models" / "docs-small", device="cpu")
    sae = load_sae_from_disk(Path(settings.demo_dir) / "saes" / "docs-small-res" / HOOK)
    [[plain], [steered]] = steer(
        model, sae, LINK["prompt"], [Intervention((7,), (8.0,))], max_new_tokens=5
    )
    assert [it.value for it in app.code][:2] == [plain, steered]
    assert "the null" in texts(app)


@pytest.mark.slow
def test_links_carry_what_is_done(open_page: Open) -> None:
    app = open_page(
        mode="set", place="after", unit="kl", strengths="0.1", latents="3, 9", together="1"
    )
    assert not app.error, texts(app)
    shown = table(app)
    assert shown["latents"].tolist()[1:] == ["3 + 9", "3 + 9"]
    assert shown["KL"].iloc[1] == pytest.approx(0.1, rel=0.021)
    assert app.selectbox(key="steer_mode").value == "set"
    ablated = open_page(mode="ablate", place="tokens", positions="1, 2")
    assert not ablated.error, texts(ablated)
    assert len(table(ablated)) == 3


def test_strengths_in_largest_activations_read_a_text_first(open_page: Open) -> None:
    app = open_page(unit="largest", strengths="2")
    assert not app.error, texts(app)
    assert table(app)["activation"].iloc[1] > 0


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"strengths": "nan"}, "'nan' is not a scale"),
        ({"prompt": "word " * 200}, "shorten the prompt or ask for fewer new tokens"),
        ({"prompt": " "}, "The prompt is empty"),
        ({"latents": "99999"}, "is not a number from 0 to"),
        ({"place": "where"}, "has to be active for steering is missing"),
        ({"place": "where", "gate": "5000"}, "There is no latent 5000"),
        ({"place": "tokens"}, "No token of the prompt is chosen"),
        ({"place": "tokens", "positions": "60"}, "so there is no token 60 to steer"),
        ({"mode": "push"}, "mode in this link cannot be used"),
        ({"mode": "cap", "unit": "kl"}, "has no strength that grows with the KL divergence"),
        ({"samples": "20", "strengths": "1 to 9 in 60", "temperature": "1"}, "at most 1,500"),
    ],
)
def test_what_cannot_be_done_costs_a_sentence(
    open_page: Open, asked: dict[str, str], sentence: str
) -> None:
    app = open_page(**asked)
    assert not app.exception
    assert sentence in texts(app)


@pytest.mark.slow
def test_a_run_is_judged_and_kept_for_the_dossier(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_openai() as service:
        service.reply = lambda body: "Rating: 2"
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", GOOD_KEY)
        app = open_page(judge="1", concept="rivers", strengths="2")
        assert not app.error, texts(app)
        assert not service.questions(), "nothing is asked before a click"
        app.button(key="steer_judge_ask").click()
        settle(app)
        assert not app.error, texts(app)
        judged = next(it.value for it in app.dataframe if "fluency" in it.value)
        assert judged["what"].tolist() == ["unsteered", "latent", "random"]
        assert judged["score"].tolist() == [2, 2, 2]
        assert service.questions()
    app.button(key="steer_keep").click().run()
    assert "shows this run from now on" in texts(app)
    sae = load_sae_from_disk(Path(resources.settings().demo_dir) / "saes" / "docs-small-res" / HOOK)
    kept = load_steering(resources.store(), fingerprint_of_sae(sae), 7)
    assert kept is not None
    assert [it["kind"] for it in kept.rows] == ["unsteered", "latent", "random"]
