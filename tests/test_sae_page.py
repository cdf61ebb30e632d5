"""The page about a whole SAE on a tiny bundle, without a browser."""

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from core.sae_quality.view import LINK, TABS
from core.settings import Settings
from tests.demo_bundle import write_demo
from tests.page_sessions import Open, page_server, settle, texts

FAMILY = {"release": "docs-small-res-splitting", "sae": "blocks.1.hook_resid_pre_64"}


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("sae-page")
    settings = Settings(
        cache_dir=folder / "cache", demo_dir=write_demo(folder / "demo"), device="cpu"
    )
    with page_server(settings, "pages/sae.py", link={**FAMILY, "tokens": "1500"}) as opened:
        yield opened


def shown(app: AppTest) -> dict[str, str]:
    return {it.label: str(it.value) for it in app.metric}


@pytest.mark.slow
def test_quality_stands_with_what_was_published_and_what_chance_reaches(open_page: Open) -> None:
    app = open_page()
    assert not app.exception
    assert not app.error
    figures = {it.label: it for it in app.metric}
    assert "published 7.5" in figures["Active per token (L0)"].delta
    assert "random directions" in figures["Variance explained"].delta
    assert "published 91.2%" in figures["Variance explained"].delta
    assert "zeros" in figures["KL divergence"].delta
    assert "1,500 tokens of Documentation" in texts(app)
    table = app.dataframe[0].value
    assert {"value", "low", "high", "null", "published", "n"} <= set(table.columns)
    assert len(app.get("plotly_chart")) == 6


@pytest.mark.slow
def test_a_family_is_compared_at_a_click_and_kept(open_page: Open) -> None:
    app = open_page(tab="compare")
    assert not app.exception
    app.button(key=next(it.key for it in app.button if "Measure 3 SAEs" in it.label)).click()
    app = settle(app)
    assert not app.error
    table = app.dataframe[0].value
    assert list(table["latents"]) == [32, 64, 128]
    assert table["Variance explained"].nunique() == 3
    again = open_page(tab="compare")
    assert list(again.dataframe[0].value["latents"]) == [32, 64, 128], "no second click is needed"
    layers = open_page(tab="compare", among="release", release="docs-small-res", sae="")
    labels = [it.label for it in layers.button]
    assert "Measure 3 SAEs" in labels


def test_a_lone_sae_says_what_to_compare_with(open_page: Open) -> None:
    app = open_page(tab="compare", release="docs-small-hook-z", sae="blocks.1.hook_z")
    assert not app.exception
    assert "no relatives of another width" in texts(app)
    assert "no other SAE" in texts(
        open_page(
            tab="compare", among="release", release="docs-small-hook-z", sae="blocks.1.hook_z"
        )
    )


def test_a_link_carries_the_view_and_bad_parts_of_it_are_said(open_page: Open) -> None:
    app = open_page(tab="nonsense", tokens="1500")
    assert not app.exception
    assert "tab in this link cannot be used" in texts(app)
    view, problems = LINK.parse({"tab": "compare", "tokens": "999", "figure": "kl"})
    assert problems == ()
    assert LINK.to_parameters(view) == {"tab": "compare", "tokens": "999", "figure": "kl"}
    assert set(TABS) >= {"quality", "compare"}


@pytest.mark.slow
def test_another_text_changes_what_is_measured(open_page: Open) -> None:
    few = shown(open_page(tokens="600"))
    many = shown(open_page(tokens="1500"))
    assert few["Variance explained"] != many["Variance explained"] or few != many


@pytest.mark.slow
def test_a_wider_sae_is_stitched_into_the_narrower_one(open_page: Open) -> None:
    app = open_page(tab="stitching")
    assert not app.exception
    assert not app.error
    figures = shown(app)
    assert "of" in figures["Novel latents"]
    assert "AUC" in "".join(figures)
    assert "blocks.1.hook_resid_pre_64** into **" in texts(app).replace("\\", "")
    assert len(app.get("plotly_chart")) == 3
    wider = open_page(tab="stitching", **{"with": "blocks.1.hook_resid_pre_128", "below": "0.5"})
    assert not wider.exception
    assert "blocks.1.hook_resid_pre_128** into" in texts(wider).replace("\\", "")
    assert "Below 0.5" in shown(wider)


def test_what_cannot_be_stitched_says_why(open_page: Open) -> None:
    alone = open_page(tab="stitching", release="docs-small-hook-z", sae="blocks.1.hook_z")
    assert "no relative of another width" in texts(alone)
    wrong = open_page(tab="stitching", **{"with": "something"})
    assert not wrong.exception
    assert "is no SAE of this site" in texts(wrong).replace("\\", "")


@pytest.mark.slow
def test_absorption_says_what_the_model_does_not_have(open_page: Open) -> None:
    app = open_page(tab="absorption", exceptions="1", tokens="4000")
    assert not app.exception
    said = texts(app).replace("\\", "")
    assert "positions of Documentation" in said
    assert "does not have" in said or "Full absorption" in said
    figures = shown(app)
    assert {"Full absorption", "Probe F1", "Own latents"} <= set(figures)
    table = next(it.value for it in app.dataframe if "probe_f1" in it.value)
    assert {"full_random_sae", "full_random_direction", "hedging", "n"} <= set(table.columns)
    assert "Exceptions of latent" in said
    chosen = open_page(tab="absorption", tokens="4000", concept=str(table["concept"].iloc[-1]))
    assert str(table["concept"].iloc[-1]) in texts(chosen).replace("\\", "")


def test_a_latent_of_a_narrower_sae_can_be_the_concept(open_page: Open) -> None:
    app = open_page(tab="absorption", concepts="latent", parent_latent="3", tokens="4000")
    assert not app.exception
    said = texts(app).replace("\\", "")
    assert "latent 3 of blocks.1.hook_resid_pre_32" in said
    none = open_page(
        tab="absorption", concepts="latent", sae="blocks.1.hook_resid_pre_32", tokens="4000"
    )
    assert "no narrower SAE" in texts(none)


def test_too_short_a_text_says_so(open_page: Open) -> None:
    app = open_page(tab="absorption", tokens="30")
    assert not app.exception
    assert any("different tokens" in it.value for it in app.error)
    spelling = open_page(tab="absorption", concepts="spelling")
    assert not spelling.exception
    assert any("choose sets of tokens instead" in it.value for it in spelling.error)


@pytest.mark.slow
def test_decompositions_stand_beside_nulls_and_a_row_is_edited(open_page: Open) -> None:
    app = open_page(tab="meta", steps="60", k="3")
    assert not app.exception
    assert not app.error
    figures = {it.label: it for it in app.metric}
    assert "second seed" in figures["Variance of the rows explained"].delta
    assert "Gaussian rows" in figures["Beyond rows without structure"].delta
    assert "on Gaussian rows" in figures["Meta-latents that another seed finds"].delta
    tables = [it.value for it in app.dataframe]
    evidence = next(it for it in tables if "null_is" in it)
    assert set(evidence["way"]) == {
        "meta-SAE",
        "its own other latents",
        "latents of the narrower SAE",
    }
    parts = next(it for it in tables if {"meta", "activation"} <= set(it.columns))
    own = int(parts["meta"].iloc[0])
    asked = open_page(tab="meta", steps="60", k="3", change=f"{own}:0", ask="The river", meta="3")
    assert not asked.exception
    assert not asked.error
    shown_now = shown(asked)
    assert {"The answer moves by (KL)", "Held-out text moves by (KL)"} <= set(shown_now)
    assert "Meta-latent 3" in [it.value for it in asked.subheader]
    wrong = open_page(tab="meta", steps="60", k="3", change="999:0", ask="The river")
    assert "999 is not part of latent" in texts(wrong)
    few = open_page(
        tab="meta", share_of="9", change="x", meta="900", over="none such", steps="60", k="3"
    )
    said = texts(few).replace("\\", "")
    assert "share_of in this link cannot be used" in said
    assert "change in this link cannot be used" in said
    assert "no meta-latent 900" in said
    assert "none such is no narrower SAE" in said
