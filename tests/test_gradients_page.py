"""The page of latent gradients on a tiny bundle, without a browser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.gradients import latent_to_latent_gradients
from core.gradients.gradient_request import GradientResult
from core.models import load_model
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.splitting import sample_words, text_evidence
from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.page_sessions import Open, page_server, settle, texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "docs-small-res"
START = {"model": "docs-small", "release": RELEASE, "sae": "blocks.2.hook_resid_pre", "latent": "3"}
PROMPT = "The river runs under the bridges"


def name_at(layer: int) -> str:
    return f"{RELEASE}/blocks.{layer}.hook_resid_pre"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("gradients-page")
    mine = folder / "mine"
    for layer in (0, 2):
        hook = f"blocks.{layer}.attn.hook_z"
        sae = make_sae("topk", d_in=D_MODEL, d_sae=40, hook_name=hook, model_name="docs-small")
        write_sae(sae, mine / "heads" / f"z_{layer}")
    hook = "blocks.0.hook_resid_pre"
    silent = make_sae("jumprelu", d_in=D_MODEL, d_sae=24, hook_name=hook, model_name="docs-small")
    silent.threshold.data.fill_(1e6)
    write_sae(silent, mine / "heads" / "silent")
    return Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(mine,),
    )


@pytest.fixture(scope="module")
def open_page(settings: Settings) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    replaced = {(sample_words, "SAMPLE_TOKENS"): 2000, (text_evidence, "FIRING_TOKENS"): 1000}
    link = {**START, "prompt": PROMPT}
    with page_server(
        settings,
        "pages/gradients.py",
        link=link,
        replaced=replaced,
    ) as open_link:
        yield open_link


def charts(app: AppTest) -> int:
    return len(app.get("plotly_chart"))


def results() -> list[GradientResult]:
    """Results kept in memory, the last used at the end."""
    return list(resources.recent()._kinds["gradients"].values())


def link_of(app: AppTest) -> dict[str, str]:
    found = {}
    for name, value in app.query_params.items():
        found[name] = value[0] if isinstance(value, list) else value
    return found


def table(app: AppTest, column: str):
    """The first table that has this column."""
    return next(it.value for it in app.dataframe if column in it.value)


def test_latents_are_those_of_the_definition(open_page: Open, settings: Settings) -> None:
    app = open_page(**{"from": name_at(0), "to": name_at(2), "error": "nowhere"})
    assert not app.exception
    assert not app.error, texts(app)
    assert charts(app) == 2  # the heatmap, and its check
    model = load_model(settings.demo_dir / "models/docs-small", device="cpu")
    saes = [
        load_sae_from_disk(settings.demo_dir / f"saes/{name_at(layer)}", device="cpu")
        for layer in (0, 2)
    ]
    tokens = model.to_tokens(PROMPT, prepend_bos=True)
    gradients, prev, true, recon = latent_to_latent_gradients(tokens, *saes, model)
    result = results()[-1]
    np.testing.assert_allclose(
        result.matrix.values, gradients, atol=1e-5 * float(gradients.abs().max())
    )
    assert result.matrix.sources["index"].tolist() == prev.sparse[1][:, 2].tolist()
    assert result.matrix.targets["index"].tolist() == recon.sparse[1][:, 2].tolist()
    said = texts(app)
    assert f"{len(prev):,} earlier latents are active" in said
    mismatched = int(((true.dense > 0) ^ (recon.dense > 0)).sum())
    assert f"{len(true):,} are active in the model, {len(recon):,} with" in said
    assert f"{mismatched:,} in only one" in said
    assert "A small step" in said
    assert "made offline" in said


def test_a_chosen_cell_shows_both_ends_and_its_check(open_page: Open) -> None:
    pair = {"from": name_at(0), "to": name_at(2), "error": "nowhere"}
    open_page(**pair)
    matrix = results()[-1].matrix
    to, source = np.unravel_index(np.abs(matrix.values).argmax(), matrix.values.shape)
    ends = [
        str(int(part[column].iloc[row]))
        for part, row in ((matrix.sources, source), (matrix.targets, to))
        for column in ("position", "index")
    ]
    app = open_page(**pair, cell=",".join(ends))
    assert not app.error, texts(app)
    changes = table(app, "it changes by")
    slope, value = matrix.values[to, source], matrix.sources["value"].iloc[source]
    predicted = changes["the target should change by"]
    assert predicted[0] == pytest.approx(0.02 * slope * value, rel=1e-4)
    assert predicted[1] == pytest.approx(-slope * value, rel=1e-4)
    assert changes["it changes by"][0] == pytest.approx(predicted[0], rel=0.1)
    assert f"**Latent {ends[1]}**" in texts(app)
    assert f"**Latent {ends[3]}**" in texts(app)
    app.button(key="grad_close").click()
    assert "cell" not in link_of(settle(app))


def test_tokens_and_logits(open_page: Open) -> None:
    app = open_page(tab="tokens", to=name_at(1))
    assert not app.error, texts(app)
    assert "fed by" in texts(app)
    assert charts(app) == 2
    app = open_page(tab="logits", **{"from": name_at(1), "k": "4"})
    assert not app.error, texts(app)
    assert charts(app) == 2
    assert len(table(app, "next token")) == 4


def test_filters_change_what_is_shown_and_the_link(open_page: Open) -> None:
    app = open_page(**{"from": name_at(0), "to": name_at(2)})
    app.segmented_control(key="grad_kind").set_value("attribution")
    app.segmented_control(key="grad_order").set_value("clustered")
    settle(app)
    app.number_input(key="grad_top_from").set_value(5)
    settle(app)
    app.number_input(key="grad_top_to").set_value(4)
    settle(app)
    assert not app.error, texts(app)
    assert "Shown are 5 of" in texts(app)
    link = link_of(app)
    assert {
        "kind": "attribution",
        "order": "clustered",
        "top_from": "5",
        "top_to": "4",
    }.items() <= (link.items())
    app.text_input(key="grad_pattern").set_value("no such latent anywhere")
    settle(app)
    assert "No entry passes the filters" in texts(app)
    app.button(key="grad_reset").click()
    settle(app)
    assert "top_from" not in link_of(app)
    assert charts(app) == 2


def test_a_link_is_followed_and_bad_parts_cost_a_sentence(open_page: Open) -> None:
    link = {
        "from": name_at(1),
        "to": name_at(2),
        "kind": "attribution",
        "pairs": "across tokens",
        "to_at": "3,4",
        "frozen_attention": "1",
        "least": "0.001",
    }
    app = open_page(**link)
    assert not app.warning or "poor" not in texts(app)
    assert {**link, "prompt": PROMPT}.items() <= link_of(app).items()
    assert app.selectbox(key="grad_source").value == name_at(1)
    assert app.toggle(key="grad_freeze_attention").value
    bad = open_page(to="nothing", kind="taste", k="0", cell="a,b", chain="[1]")
    problems = [it.value for it in bad.warning if "cannot be used" in it.value]
    assert len(problems) == 5
    assert not bad.exception
    assert charts(bad) == 2


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (" ", "The prompt is empty; type a few words"),
        ("word " * 90, "tokens and the model takes 64; shorten it"),
        ("a", "The prompt is a single token"),
    ],
)
def test_prompts_that_say_little(open_page: Open, prompt: str, sentence: str) -> None:
    app = open_page(prompt=prompt)
    assert sentence in texts(app)
    assert not app.exception
    assert len(app.error) == (0 if prompt == "a" else 1)
    circuit = open_page(prompt=prompt, tab="circuit")
    assert sentence in texts(circuit)


def test_saes_that_do_not_go_together(open_page: Open) -> None:
    wrong = open_page(**{"from": name_at(2), "to": name_at(0)})
    assert [it.value for it in wrong.error if "comes before" in it.value]
    wrong.button(key="grad_swap").click()
    settle(wrong)
    assert not wrong.error
    assert link_of(wrong)["from"] == name_at(0)
    silent = open_page(**{"from": "mine/heads/silent", "to": name_at(2)})
    assert "No latent of the earlier SAE is active" in texts(silent)
    assert not silent.error
    unknown = open_page(to="gpt2-small-res-jb/blocks.8.hook_resid_pre")
    said = [it.value for it in unknown.warning]
    assert any("to in this link cannot be used" in it for it in said), said


def test_circuit(open_page: Open) -> None:
    app = open_page(tab="circuit")
    assert not app.error, texts(app)
    assert charts(app) == 1
    assert [name_at(layer) for layer in range(3)] == app.multiselect(key="grad_chain").value
    edges = table(app, "influence")
    assert edges["flow"].is_monotonic_decreasing
    # The last menu holds latents as well; one of them as the end, in the link.
    ends = app.selectbox(key="grad_end")
    assert ends.options[0].startswith("next token")
    latent = next(n for n, it in enumerate(ends.options) if it.startswith("latent"))
    ends.select_index(latent)
    settle(app)
    assert not app.error, texts(app)
    position, index = link_of(app)["end"].split(",")
    again = open_page(tab="circuit", end=f"{position},{index}", node=f"3,{position},{index}")
    assert not again.error, texts(again)
    assert f"**Latent {index}**" in texts(again)
    empty = open_page(tab="circuit", end=f"{position},100000")
    assert "There is no latent 100000" in texts(empty)


def test_induction(open_page: Open) -> None:
    app = open_page(tab="induction", length="6")
    assert not app.error, texts(app)
    assert charts(app) >= 2
    said = texts(app)
    assert "second halves because tokens repeat" in said or "shows no induction" in said
    app = open_page(tab="induction", length="400")
    assert "this model can repeat 2 to" in texts(app)
    wrong = open_page(tab="induction", early="mine/heads/z_2", late="mine/heads/z_0", length="6")
    assert "comes before" in texts(wrong)
