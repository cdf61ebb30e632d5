"""The feature-splitting page on a tiny bundle, without a browser."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from core import resources
from core.descriptions.table import Descriptions
from core.models import load_model
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.splitting import map_data, sample_words, text_evidence
from core.steering import output_scores
from pages.parts.splitting import chart
from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.loopback_neuronpedia import loopback_neuronpedia
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
HOOK = "blocks.1.hook_resid_pre"
FAMILY = {"release": "docs-small-res-splitting", "sae": f"{HOOK}_64", "latent": "7"}
DEAD_OF_MINE = {32: [5], 96: [0, 40]}
"""Latents of the user's SAEs that never fired when they were trained, by width."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("splitting-page")
    mine = folder / "mine"
    for width in (32, 96):
        sae = make_sae(
            "jumprelu",
            d_in=D_MODEL,
            d_sae=width,
            hook_name="blocks.2.hook_resid_pre",
            model_name="docs-small",
            neuronpedia_id=f"docs/2-w{width}",
        )
        rates = torch.full((width,), -2.0)
        rates[DEAD_OF_MINE[width]] = -10.0  # what log10(0 + 1e-10) is
        write_sae(sae, mine / "family" / f"w_{width}", sparsity=rates)
    return Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(mine,),
    )


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server, which keeps its maps and its worker."""
    replaced = {(sample_words, "SAMPLE_TOKENS"): 6000, (text_evidence, "FIRING_TOKENS"): 3000}
    with page_server(
        settings,
        "pages/feature-splitting.py",
        replaced=replaced,
    ) as open_link:
        yield open_link


def panel(app: AppTest, name: str) -> AppTest:
    app.segmented_control(key="map_panel").set_value(name)
    return settle(app)


def table(app: AppTest, column: str):
    """The first table that has this column."""
    return next(it.value for it in app.dataframe if column in it.value)


def test_map_of_a_family_with_descriptions(open_page: Open) -> None:
    app = open_page(**FAMILY)
    assert not app.exception
    assert not app.error, texts(app)
    assert app.multiselect(key="map_saes").value == [f"{HOOK}_{n}" for n in (32, 64, 128)]
    assert "Latent 7" in texts(app)
    assert "Descriptions of 224 latents" in texts(app)
    assert "made offline" in texts(app)
    assert len(app.get("plotly_chart")) == 1


def test_a_large_map_is_not_plotly(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "MOST_PLOTTED", 100)
    app = open_page(**FAMILY, colour="cluster", search="fires")
    assert not app.exception
    assert not app.error, texts(app)
    assert len(app.get("plotly_chart")) == 0
    assert "More cluster names are written the farther you zoom in" in texts(app)
    panel(app, "downloads")
    assert not app.exception
    assert "there are tables only" in texts(app)


def test_nearest_latents_are_those_of_the_weights(open_page: Open, settings: Settings) -> None:
    app = open_page(**FAMILY)
    nearest = table(app, "cosine")
    folder = settings.demo_dir / "saes" / "docs-small-res-splitting"
    own = load_sae_from_disk(folder / f"{HOOK}_64").W_dec[7]
    for width in (32, 64, 128):
        W_dec = load_sae_from_disk(folder / f"{HOOK}_{width}").W_dec
        cosines = np.array((W_dec @ own) / W_dec.norm(dim=1) / own.norm())
        if width == 64:
            cosines[7] = -1
        found = nearest[nearest["width"] == width]
        assert found["latent"].tolist() == np.argsort(-cosines)[:10].tolist()
        np.testing.assert_allclose(found["cosine"], np.sort(cosines)[::-1][:10], atol=6e-4)


def test_search_lists_and_counts_hits(open_page: Open) -> None:
    app = open_page(**FAMILY, search="fires")
    panel(app, "hits")
    hits = table(app, "description")
    assert len(hits)
    assert hits["description"].str.contains("fires").all()
    # A pattern that cannot be read is one sentence, and the page stays.
    app.segmented_control(key="map_search_by").set_value("regex")
    app.text_input(key="map_search").set_value("(")
    settle(app)
    assert len(app.error) == 1
    assert len(app.get("plotly_chart")) == 1
    app.segmented_control(key="map_search_by").set_value("meaning")
    app.text_input(key="map_search").set_value("arrays")
    settle(app)
    # Without a service, the model's own embeddings tell, beside descriptions at random.
    assert "two descriptions at random have" in texts(app)
    assert not app.error


def test_clusters_are_listed_with_the_noise(open_page: Open) -> None:
    app = open_page(**FAMILY, colour="cluster")
    assert not app.error
    assert app.toggle(key="map_clusters").value
    panel(app, "clusters")
    assert "(noise)" in texts(app)
    sizes = table(app, "compactness")["size"]
    assert (sizes >= 3).all()
    assert sizes.sum() <= 224


def test_scores_for_steering_colour_the_map_at_a_click(open_page: Open, settings: Settings) -> None:
    app = open_page(**FAMILY, colour="output")
    assert "widths are shown until then" in texts(app)
    app.button(key="map_score").click()
    settle(app)
    assert not app.error, texts(app)
    key = next(it.key for it in resources.jobs().jobs() if it.key.startswith("map-scores:"))
    found = resources.recent().get(key)
    assert [len(it) for it in found.values()] == [32, 64, 128]
    model = load_model(Path(settings.demo_dir) / "models" / "docs-small", device="cpu")
    folder = Path(settings.demo_dir) / "saes" / FAMILY["release"] / FAMILY["sae"]
    own, _ = output_scores(model, load_sae_from_disk(folder))
    np.testing.assert_allclose(found[FAMILY["sae"]], own.calibrated, atol=1e-4)
    assert "widths are shown until then" not in texts(app)


@pytest.mark.parametrize("way", ["examples", "text", "descriptions"])
def test_relatives_by_three_ways(open_page: Open, way: str) -> None:
    app = open_page(**FAMILY)
    panel(app, "tree")
    app.segmented_control(key="tree_way").set_value(way)
    settle(app)
    assert not app.error, texts(app)
    assert len(app.get("plotly_chart")) == 2  # the map and the tree
    app.segmented_control(key="tree_by").set_value("firing")
    settle(app)
    assert not app.error, texts(app)


def test_other_panels_draw(open_page: Open) -> None:
    app = open_page(**FAMILY, lasso="-1000,-1000,1000,1000")
    for name in ("selection", "new", "descriptions", "downloads"):
        panel(app, name)
        assert not app.exception
        assert not app.error, (name, texts(app))
        if name == "selection":
            assert "224 latents selected" in texts(app)
        if name == "new":
            assert "have no relative" in texts(app)


def test_link_carries_the_view_and_bad_parts_cost_a_sentence(open_page: Open) -> None:
    labels = f"{HOOK}_32,{HOOK}_128"
    link = {"saes": labels, "neighbors": "10", "seed": "3", "zoom": "-1,2,-3,4"}
    app = open_page(**FAMILY, **link)
    shown = {name: app.query_params[name] for name in link}
    assert {
        name: value[0] if isinstance(value, list) else value for name, value in shown.items()
    } == link
    assert app.multiselect(key="map_saes").value == labels.split(",")
    bad = open_page(**FAMILY, saes="nothing", neighbors="-5", zoom="a,b", colour="taste")
    assert len(bad.warning) == 4
    assert not bad.exception
    assert len(bad.get("plotly_chart")) == 1


def test_hidden_dead_latents_are_counted(open_page: Open) -> None:
    app = open_page(**FAMILY)
    key = next(it.key for it in resources.jobs().jobs() if it.key.startswith("evidence:"))
    found = resources.recent().get(key)
    n_dead = sum(int(it.dead.sum()) for it in found.values())
    app.toggle(key="map_hide_dead").set_value(True)
    settle(app)
    assert not app.error
    said = f"{n_dead:,} latents are left out"
    assert (said in texts(app)) == (n_dead > 0)


def test_published_rates_tell_the_dead_without_reading_text(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("rates were published with these SAEs")

    monkeypatch.setattr(map_data, "read_sample", measured)
    app = open_page(release="mine", sae="family/w_32", latent="3", hide_dead="1")
    assert not app.error, texts(app)
    assert "3 latents are left out: 3 never fire." in texts(app)
    key = next(it.key for it in resources.jobs().jobs() if it.key.startswith("map:"))
    data = resources.recent().get(key)
    left_out = data.map.left_out
    assert {(row.sae_width, row.latent_idx) for row in left_out.itertuples()} == {
        (width, latent) for width, dead in DEAD_OF_MINE.items() for latent in dead
    }
    for rates in data.published_rates.values():
        np.testing.assert_allclose(rates[rates > 0], 0.01)


def test_neuronpedia_down_costs_a_message_and_working_gives_descriptions(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"release": "mine", "sae": "family/w_32", "latent": "3"}
    with loopback_neuronpedia() as site:
        monkeypatch.setenv("NEURONPEDIA_URL", site.url)
        monkeypatch.setenv("NEURONPEDIA_DATASETS_URL", site.url)
        site.listing = b"<html>maintenance</html>"
        app = open_page(**mine)
        assert not app.error, texts(app)
        panel(app, "descriptions")
        next(it for it in app.button if "Neuronpedia" in it.label).click()
        settle(app)
        assert any("Neuronpedia" in it.value for it in app.warning), texts(app)
        assert len(app.get("plotly_chart")) == 1
        site.listing = None
        for width in (32, 96):
            rows = [{"index": str(i), "description": f"thing {i}"} for i in range(width)]
            site.put_batch(f"docs/2-w{width}", 0, rows)
        app.button(key="neuronpedia_again").click()
        settle(app)
        assert "128 from Neuronpedia; 0 have none" in texts(app)
        assert "thing 3" in texts(app)


def test_neuronpedia_page_is_embedded_on_demand(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONPEDIA_URL", "http://127.0.0.1:9")  # nobody answers there
    app = open_page(release="mine", sae="family/w_32", latent="3")
    assert not app.get("iframe")
    app.toggle(key="map_neuronpedia").set_value(True)
    settle(app)
    (shown,) = app.get("iframe")
    address = urlsplit(shown.proto.src)
    assert address.netloc == "127.0.0.1:9"
    assert address.path == "/docs/2-w32/3"
    assert parse_qs(address.query)["embed"] == ["true"]
    app.toggle(key="map_neuronpedia").set_value(False)
    assert not settle(app).get("iframe")


def test_panel_and_ways_are_in_the_link(open_page: Open) -> None:
    app = open_page(**FAMILY, panel="tree", related="firing", through="descriptions")
    assert app.segmented_control(key="map_panel").value == "tree"
    assert app.segmented_control(key="tree_by").value == "firing"
    assert app.segmented_control(key="tree_way").value == "descriptions"
    app.text_input(key="map_search").set_value("fires")
    settle(app)
    assert app.query_params["panel"] in ("hits", ["hits"])
    assert table(app, "description")["description"].str.contains("fires").all()


def test_descriptions_of_the_user_come_first(open_page: Open) -> None:
    app = open_page(**FAMILY)
    from core.descriptions.saved import forget_user_descriptions, save_user_descriptions
    from core.store.fingerprint import fingerprint_of_sae

    key = (FAMILY["release"], FAMILY["sae"])
    with resources.engine().use("docs-small", [key]) as (_, (sae,)):
        name = fingerprint_of_sae(sae)
    mine = Descriptions.from_texts([""] * 7 + ["what I think"] + [""] * 56, source="yours")
    save_user_descriptions(resources.store(), name, mine)
    settle(app)
    assert "what I think" in texts(app)
    assert "1 yours" in texts(app)
    forget_user_descriptions(resources.store(), name)
