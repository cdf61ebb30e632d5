"""The feature-splitting page asks before work on very many latents, with the time said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import resources
from core.settings import Settings
from core.splitting import large_config, map_offer, sample_words, text_evidence
from core.splitting.large_config import LargeMap
from tests.demo_bundle import write_demo
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

HOOK = "blocks.1.hook_resid_pre"
FAMILY = {"release": "docs-small-res-splitting", "sae": f"{HOOK}_64", "latent": "7"}


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder: Path = tmp_path_factory.mktemp("asks")
    demo = write_demo(folder / "demo")
    settings = Settings(cache_dir=folder / "cache", demo_dir=demo, device="cpu")
    few = LargeMap(above=100)
    replaced = {
        (sample_words, "SAMPLE_TOKENS"): 3000,
        (text_evidence, "FIRING_TOKENS"): 1000,
        (map_offer, "LARGE"): few,
        (large_config, "LARGE"): few,
        # What measures it is tried in test_splitting_large.
        (map_offer, "seconds_needed"): lambda *_: 300.0,
    }
    with page_server(settings, "pages/feature-splitting.py", replaced=replaced) as open_link:
        yield open_link


def test_a_map_that_takes_minutes_is_made_at_a_click(open_page: Open) -> None:
    app = open_page(**FAMILY)
    assert not app.exception
    assert not app.get("plotly_chart")
    assert "It takes about 5 minutes on this machine" in texts(app)
    app.button(key="map_make").click()
    settle(app)
    assert not app.error, texts(app)
    assert len(app.get("plotly_chart")) == 1
    key = next(it.key for it in resources.jobs().jobs() if it.title.startswith("Map of"))
    resources.jobs().forget(key)
    resources.recent().clear()
    app = open_page(**FAMILY)
    assert len(app.get("plotly_chart")) == 1, "one that was made opens unasked"
    app.number_input(key="map_seed").set_value(12)
    next(it for it in app.button if it.label == "Apply").click()
    settle(app)
    assert "It takes about 5 minutes on this machine" in texts(app)
    assert len(app.get("plotly_chart")) == 1, "the map before it stays"


def test_a_text_is_read_with_very_many_latents_at_a_click(open_page: Open) -> None:
    app = open_page(**FAMILY)
    if not app.get("plotly_chart"):
        app.button(key="map_make").click()
        settle(app)
    assert "is known after reading some text, which takes about" in texts(app)
    assert "Descriptions of 224 latents" not in texts(app)
    next(it for it in app.button if it.label == "Read a sample of text").click()
    settle(app)
    assert not app.error, texts(app)
    assert "Descriptions of 224 latents" in texts(app)
