"""The page of the dossier on a tiny bundle, with planted sections, without a browser or a model."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.catalog import Catalog
from core.corpus import docs_sample
from core.dossier import compare
from core.dossier.beside import keep_run
from core.dossier.others import note_fingerprint
from core.dossier.plan import request_for
from core.dossier.stored import keep_about, keep_section, note_not_run
from core.dossier.trials import save_trial
from core.settings import Settings
from core.store import Store
from core.view.choices import read_choices
from tests.demo_bundle import write_demo
from tests.dossier_planted import comparison, dossier, said, says, spoken, trial
from tests.page_sessions import page_server, texts

pytestmark = pytest.mark.slow

HOOK = "blocks.1.hook_resid_pre"
LINK = {"model": "docs-small", "release": "docs-small-res", "sae": HOOK, "latent": "3"}
LIE = '<b>a "cat"</b>'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """Opens links to a latent of which all but two parts, a trial and a comparison are stored."""
    folder = tmp_path_factory.mktemp("dossier-page")
    settings = Settings(
        cache_dir=folder / "cache", demo_dir=write_demo(folder / "demo"), device="cpu"
    )
    plant(settings)
    with page_server(settings, "pages/dossier.py", link=LINK) as open_link:
        yield open_link


@pytest.fixture(scope="module")
def app(served) -> AppTest:
    """The page of that latent."""
    return served()


def plant(settings: Settings) -> None:
    catalog, store = Catalog(settings), Store(Path(settings.cache_dir))
    choices = read_choices(catalog, hub=False)
    request = request_for(catalog, choices, catalog.entry("docs-small-res", HOOK), 3, docs_sample())
    assert request.speaker == "docs-small-it"
    assert (request.before[1], request.after[1]) == (
        "blocks.0.hook_resid_pre",
        "blocks.2.hook_resid_pre",
    )
    found = replace(dossier(says=says(said(text=LIE), own=spoken())), request=request)
    for part in ("reads", "writes", "says", "hides"):
        keep_section(store, request, part, {"planted": part}, found.section(part))
    note_not_run(store, request, "works", "There is no earlier SAE.")
    keep_about(store, request, None, {"sae": "f" * 64, "model": "e" * 64, "text": "a text"})
    note_fingerprint(store, request, "f" * 64)
    save_trial(store, "f" * 64, 3, trial(hypothesis=LIE))
    store.keep(compare._key(request, request.of(5)), comparison(), compare._CODEC)
    meta = {"latent": [3], "meta": [8], "activation": [0.5], "matched": [0.9], "latents": [4]}
    keep_run(store, request, "meta", pd.DataFrame({**meta, "tokens": ["cat"]}), "About it.")
    store.close()


def test_what_the_store_has_stands_at_once(app: AppTest) -> None:
    assert not app.exception
    assert not app.error, texts(app)
    shown = texts(app)
    assert "Dossier of latent 3" in shown
    assert "lines of evidence agree" in shown
    assert "Not run: There is no earlier SAE." in shown.replace("\\", "")
    assert "<b>" not in shown.replace("\\<b\\>", "")
    assert [it.label for it in app.button if it.key == "dossier_start"] == [
        "Compute the rest: Belongs"
    ]
    assert {it.value for it in app.metric} >= {"0", "Fairly sure"}
    heads = [it.value for it in app.header]
    assert heads == [
        *("In one breath", "Reads", "Writes", "Says", "Belongs", "Hides", "Works", "Doubts"),
        *("Notes", "Told by a chat model", "Take away"),
    ]


def test_notes_are_kept(app: AppTest) -> None:
    app.text_area[0].set_value("cats, I think").run()
    app.button(key="dossier_note_save").click().run()
    assert not app.exception
    assert "Saved as version 1." in texts(app)
    assert app.text_area[0].value == "cats, I think"


def test_longer_runs_stand_where_they_belong(app: AppTest) -> None:
    shown = texts(app)
    assert "Meta-latents that it is made of" in shown
    assert "About it." in shown
    offered = {it.key: it.label for it in app.button if str(it.key).startswith("dossier_run_")}
    assert offered == {"dossier_run_absorption": "Look for absorption and hedging"}
    assert "Absorption and hedging: not run" in shown


def test_trials_and_comparisons_open_from_a_link(served) -> None:
    tried = served(tab="test", kind="explanation", hypothesis="a cat")
    assert not tried.exception
    assert not tried.error, texts(tried)
    shown = texts(tried)
    assert "All trials of this latent (1)" in shown
    assert "It names this, and the latent is silent" in shown
    assert "<b>" not in shown.replace("\\<b\\>", "")
    assert [it.label for it in tried.button if it.key == "dossier_try"] == ["Try it"]
    assert tried.text_area[0].value == "a cat"
    both = served(tab="compare", with_latent="5")
    assert not both.exception
    assert not both.error, texts(both)
    shown = texts(both)
    assert [it.value for it in both.subheader if it.value.startswith("Latent")] == [
        "Latent 3",
        "Latent 5",
    ]
    assert "The first fires, the second does least" in shown
    heads = [it.value for it in both.header]
    assert heads == ["On the same texts", "Evidence side by side", "On one map"]
    assert "Once both dossiers are computed." in shown


@pytest.mark.parametrize(
    ("tab", "box", "typed", "button", "job"),
    [
        ("test", "dossier_hypothesis", "cat", "dossier_try", "dossier-trial:"),
        ("batch", "dossier_latents", "4, 6", "dossier_batch_start", "dossiers:"),
    ],
)
def test_what_is_typed_is_begun_by_the_click_that_leaves_the_field(
    served, monkeypatch: pytest.MonkeyPatch, tab: str, box: str, typed: str, button: str, job: str
) -> None:
    from pages.parts import tasks

    begun: list[str] = []
    monkeypatch.setattr(tasks, "submit", lambda key, *_, **__: begun.append(key))
    page = served(tab=tab)
    page.button(key=button).click().run()
    assert not begun, "nothing is typed yet"
    assert not page.exception
    fields = [*page.text_input, *page.text_area]
    next(it for it in fields if it.key == box).input(typed)
    page.button(key=button).click()
    page.run()
    assert not page.exception
    assert [key.partition(":")[0] + ":" for key in begun] == [job]
