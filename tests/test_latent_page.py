"""The latent page on a tiny bundle, without a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.models import cache_sites
from core.saes import encode
from core.settings import Settings
from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
HOOK = "blocks.1.hook_resid_pre"
SAE = {"release": "docs-small-res", "sae": HOOK, "latent": "7"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("latent-page")
    mine = folder / "mine"
    for kind in ("jumprelu", "topk"):
        sae = make_sae(
            kind,
            d_in=D_MODEL,
            d_sae=48,
            hook_name="blocks.2.hook_resid_pre",
            model_name="docs-small",
        )
        if kind == "jumprelu":
            sae.b_enc.data[3] = -1e6  # never active
            sae.b_enc.data[4] = 1e3  # always active
        write_sae(sae, mine / kind)
    return Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(mine,),
    )


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server, which keeps its indexes."""
    with page_server(settings, "pages/latent.py", link={"tokens": "3000"}) as open_link:
        yield open_link


def html(app: AppTest) -> str:
    return "".join(it.proto.body for it in app.get("html"))


def test_dashboard_of_the_demo_comes_unasked(open_page: Open) -> None:
    app = open_page(**SAE)
    assert not app.exception
    assert not app.error, texts(app)
    assert "Latent 7" in texts(app)
    assert "Strongest examples" in texts(app)
    assert "lx-at" in html(app)
    assert len(app.get("plotly_chart")) == 2


def table(app: AppTest, column: str):
    """The first table that has this column."""
    return next(it.value for it in app.dataframe if column in it.value)


def shown(app: AppTest, name: str) -> str | None:
    value = app.query_params.get(name)
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("release", "sae"),
    [
        ("docs-small-hook-z", "blocks.1.hook_z"),
        ("mine", "jumprelu"),
        ("mine", "topk"),
    ],
)
def test_live_box_and_examples_on_every_kind_of_sae(
    open_page: Open, release: str, sae: str
) -> None:
    app = open_page(release=release, sae=sae, latent="5")
    assert not app.error, texts(app)
    assert "Strongest examples" in texts(app)
    app.text_area(key="latent_live").set_value("The river runs\n<b>under</b> 🙂 שלום").run()
    assert not app.error, texts(app)
    assert "tokens" in texts(app)
    assert "&lt;" in html(app)
    assert "<b>" not in html(app)
    assert shown(app, "live") == "The river runs\n<b>under</b> 🙂 שלום"


def test_live_activations_are_those_of_the_sae(open_page: Open, settings: Settings) -> None:
    text = "When Mary and John went to the store"
    app = open_page(**SAE, live=text)
    assert app.text_area(key="latent_live").value == text
    with resources.engine().use("docs-small", [(SAE["release"], HOOK)]) as (model, (sae,)):
        tokens = model.to_tokens(text)
        site = cache_sites(model, tokens, [HOOK])[HOOK]
        values = encode(sae, site)[0, 1:, 7].tolist()
    n_active = sum(value > 0 for value in values)
    said = f"Active at {n_active} of {len(values)} tokens" if n_active else "Not active at any"
    assert said in texts(app)
    hints = "".join(f'data-v="{value:.4g}"' for value in values)
    assert hints in "".join(re.findall(r'data-v="[^"]*"', html(app)))


def test_dead_always_on_and_empty_texts(open_page: Open) -> None:
    dead = open_page(release="mine", sae="jumprelu", latent="3")
    assert "never active on the" in texts(dead)
    assert not dead.error
    always = open_page(release="mine", sae="jumprelu", latent="4")
    assert "active at most tokens" in texts(always)
    assert not always.error
    always.text_area(key="latent_live").set_value("").run()
    assert "Type a few words" in texts(always)
    always.text_area(key="latent_live").set_value("a b c " * 300).run()
    assert "tokens are left out" in texts(always)
    assert not always.error


def test_other_models_are_read_at_a_click(open_page: Open) -> None:
    app = open_page(**SAE, tokens="400000")
    assert "No text was read with this SAE yet" in texts(app)
    assert "Known once a text was read" in texts(app)
    app.segmented_control(key="reading_source_docs").set_value("text").run()
    app.text_area(key="reading_pasted").set_value("array, array & <i>array</i>\n\n" * 40).run()
    app.button(key="reading_go").click()
    settle(app)
    assert not app.error, texts(app)
    assert "Examples come from: Pasted text" in texts(app)
    corpus = shown(app, "corpus")
    assert corpus is not None
    assert corpus.startswith("text:")
    assert "&lt;i&gt;" in html(app) or "&lt;" in html(app)
    # The link shows the same to somebody else, and an unknown text costs a sentence.
    other = open_page(**SAE, tokens="400000", corpus=corpus)
    assert html(other) == html(app)
    gone = open_page(**SAE, corpus="text:" + "0" * 20 + "-pasted.txt")
    assert "not on this server any more" in texts(gone)
    assert "Try a text" in "".join(it.value for it in gone.subheader)


def test_a_link_alone_reads_nothing_from_the_hub(open_page: Open) -> None:
    """Whoever opens a link has chosen nothing yet, on the demo either."""
    before = len(resources.jobs().jobs())
    app = open_page(corpus="hub:owner/data")
    assert not app.exception
    started = resources.jobs().jobs()[: len(resources.jobs().jobs()) - before]
    assert not [job for job in started if job.key.startswith("latent-index:")]
    assert any(button.key and button.key.startswith("latent_") for button in app.button)


def test_all_saes_of_a_release_in_one_pass(open_page: Open) -> None:
    app = open_page(release="docs-small-res-splitting", sae=f"{HOOK}_64", tokens="350000")
    app.segmented_control(key="reading_source_docs").set_value("text").run()
    app.text_area(key="reading_pasted").set_value("Mary went to the store. " * 50).run()
    app.toggle(key="reading_all").set_value(True).run()
    app.button(key="reading_go").click()
    settle(app)
    assert "Examples come from: Pasted text" in texts(app)
    corpus = shown(app, "corpus") or ""
    n_jobs = len(resources.jobs().jobs())
    other = open_page(
        release="docs-small-res-splitting", sae=f"{HOOK}_128", tokens="350000", corpus=corpus
    )
    assert "Strongest examples" in texts(other) or "never active" in texts(other)
    reading = [it for it in resources.jobs().jobs() if it.key.startswith("latent-index")]
    assert "with 3 SAEs" in reading[0].title
    assert len(resources.jobs().jobs()) <= n_jobs + 1  # at most its descriptions


def test_more_context_is_read_and_in_the_link(open_page: Open) -> None:
    app = open_page(**SAE)
    short = len(html(app))
    app.segmented_control(key="latent_around").set_value(50)
    settle(app)
    assert not app.error, texts(app)
    assert len(html(app)) > short
    assert "not read" not in html(app)
    assert shown(app, "around") == "50"


def test_browse_lists_filters_and_keeps_its_view_in_the_link(open_page: Open) -> None:
    app = open_page(release="mine", sae="jumprelu", tab="browse", order="rare", kind="alive")
    assert not app.error, texts(app)
    listed = table(app, "density")
    assert 3 not in listed["latent"].tolist()
    assert listed["density"].is_monotonic_increasing
    assert listed["logit_skew"].notna().all()
    assert listed["description"].str.len().gt(0).any()
    app.selectbox(key="latent_kind").set_value("dead")
    settle(app)
    assert table(app, "density")["latent"].tolist() == [3]
    assert shown(app, "kind") == "dead"
    narrowed = open_page(release="mine", sae="jumprelu", tab="browse", density="-0.1,0")
    assert table(narrowed, "density")["latent"].tolist()
    assert (table(narrowed, "density")["density"] > 79).all()
    narrowed.button(key="latent_any_density").click()
    settle(narrowed)
    assert len(table(narrowed, "density")) == 48


def test_lists_are_shared_noted_and_removed(open_page: Open) -> None:
    app = open_page(**SAE, tab="lists")
    assert "There are no lists yet" in texts(app)
    app.text_area(key="latent_add_note_7").set_value("rivers & <b>towers</b>").run()
    app.button(key="latent_add_go").click().run()
    assert "is on the list" in "".join(it.value for it in app.success)
    other = open_page(**(SAE | {"latent": "9"}), tab="lists", list="Interesting")
    assert table(other, "note")["note"].tolist() == ["rivers & <b>towers</b>"]
    other.button(key="latent_add_go").click().run()
    settle(other)
    assert table(other, "note")["latent"].tolist() == [7, 9]
    other.text_area(key="latent_note_Interesting_9").set_value("bridges").run()
    other.button(key="latent_note_save").click().run()
    assert table(settle(other), "note")["note"].tolist() == ["rivers & <b>towers</b>", "bridges"]
    other.button(key="latent_note_remove").click().run()
    assert table(settle(other), "note")["latent"].tolist() == [7]
    other.button(key="latent_list_remove").click().run()
    assert "There are no lists yet" in texts(settle(other))


def test_own_description_comes_first(open_page: Open) -> None:
    app = open_page(**(SAE | {"latent": "11"}))
    assert "Made offline" in texts(app)
    app.text_input(key="latent_describe_11").set_value("about *towers*").run()
    app.button(key="latent_describe_save").click()
    settle(app)
    assert "#### about \\*towers\\*" in texts(app)
    assert "Written by users of this server" in texts(app)


@pytest.mark.parametrize("tab", ["prompt", "lens", "enrichment"])
def test_other_parts_draw(open_page: Open, tab: str) -> None:
    app = open_page(**SAE, tab=tab)
    assert not app.exception
    assert not app.error, texts(app)
    assert shown(app, "tab") == tab


def test_attribution_is_offered_for_attention_saes(open_page: Open) -> None:
    app = open_page(release="docs-small-hook-z", sae="blocks.1.hook_z", latent="5", tab="sources")
    assert not app.error, texts(app)
    assert "Attribution" in app.segmented_control(key="latent_tab").options
    plain = open_page(**SAE)
    assert "Attribution" not in plain.segmented_control(key="latent_tab").options


def test_bad_links_cost_a_sentence_each(open_page: Open) -> None:
    app = open_page(**SAE, tab="nothing", corpus="file:../../etc", around="7", density="1,2")
    assert sum("in this link cannot be used" in it.value for it in app.warning) == 4
    assert not app.exception
    assert "Strongest examples" in texts(app)


def test_neighbours_lead_to_other_saes(open_page: Open) -> None:
    app = open_page(release="docs-small-res-splitting", sae=f"{HOOK}_64", latent="7")
    assert not app.error, texts(app)
    family = table(app, "SAE")
    assert set(family["width"]) == {32, 128}
    near = next(it.value for it in app.dataframe if "cosine" in it.value and "SAE" not in it.value)
    assert len(near) == 10
