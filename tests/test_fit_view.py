"""The fit check behind the card: made once, kept, and shown beside what was published."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from core import resources
from core.activations.index_figures import IndexFigures, recall_index, remember_index
from core.catalog import Catalog
from core.corpus.documents import pasted_text
from core.engine import Engine
from core.fit_check import check_fit
from core.fit_check import on_text as fit_view
from core.fit_check.measurements import combine_measurements
from core.fit_check.on_text import FitOnText, FitRequest, run_fit_check
from core.settings import Settings
from core.store import Store
from tests.builders import make_sae, write_sae
from tests.demo_bundle import METRICS, write_demo
from tests.page_sessions import Open, page_server, settle, texts

HOME = "pages/home.py"
TEXT = pasted_text(
    "\n".join(f"In {1900 + n} the river {n} ran under bridge {n * 7}." for n in range(200))
)
MODEL, RELEASE, SAE_ID = "docs-small", "docs-small-res", "blocks.1.hook_resid_pre"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo bundle, and SAEs of the user beside it."""
    folder = tmp_path_factory.mktemp("fit")
    write_demo(folder / "demo")
    options = {"d_in": 32, "d_sae": 64, "model_name": MODEL, "context_size": 64}
    site = "blocks.1.hook_resid_pre"
    scaled = make_sae(
        "standard", hook_name=site, normalize_activations="expected_average_only_in", **options
    )
    write_sae(scaled, folder / "saes" / "unscaled")
    write_sae(make_sae("standard", hook_name=site, **options), folder / "saes" / "mine")
    dead = make_sae("standard", hook_name=site, **options)
    dead.b_enc.fill_(-1e6)
    write_sae(dead, folder / "saes" / "dead")
    return folder


@pytest.fixture
def settings(folders: Path, tmp_path: Path) -> Settings:
    return Settings(
        demo_dir=folders / "demo",
        cache_dir=tmp_path / "cache",
        user_sae_dirs=(folders / "saes",),
        device="cpu",
    )


def request(**changes: object) -> FitRequest:
    options = {"model": MODEL, "sae": (RELEASE, SAE_ID), "version": "", "corpus": TEXT}
    return FitRequest(**{**options, **changes})  # type: ignore[arg-type]


def checked(engine: Engine, store: Store, wanted: FitRequest) -> FitOnText:
    return run_fit_check(engine.lease(wanted.model, [wanted.sae]), store, wanted)


@pytest.mark.slow
def test_is_made_once_and_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, store = Engine(Catalog(settings), device="cpu"), Store(settings.cache_dir)
    made: list[int] = []
    checking = fit_view.Checking

    def counted(*args: object, **options: object) -> object:
        made.append(1)
        return checking(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_view, "Checking", counted)
    first = checked(engine, store, request(declared_l0=7.5))
    again = checked(engine, store, request(declared_l0=7.5))
    assert first == again
    assert first.text == "Pasted text"
    assert len(made) == 1
    # Step by step in leases is the same as all at once.
    from core.corpus.load import default_packing, load_token_set

    with engine.use(MODEL, [(RELEASE, SAE_ID)]) as (model, (sae,)):
        packing = default_packing(model, sae, max_tokens=fit_view.FIT_TOKENS)
        tokens = load_token_set(TEXT, model.tokenizer, packing)
        assert check_fit(model, sae, tokens, declared_l0=7.5) == first.check


def test_a_corrected_config_is_checked_again(settings: Settings, folders: Path) -> None:
    """The key holds the site: what was found at the wrong one does not come back."""
    engine, store = Engine(Catalog(settings), device="cpu"), Store(settings.cache_dir)
    folder = folders / "saes" / "moved"
    write_sae(make_sae("standard", hook_name=SAE_ID, d_in=32, d_sae=64, model_name=MODEL), folder)
    before = checked(engine, store, request(sae=("saes", "moved")))
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"]["hook_name"] = "blocks.2.hook_resid_pre"
    (folder / "cfg.json").write_text(json.dumps(cfg))
    after = checked(engine, store, request(sae=("saes", "moved")))
    assert (before.check.hook_name, after.check.hook_name) == (SAE_ID, "blocks.2.hook_resid_pre")


def test_the_longer_text_wins(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = ("m", "r", "s", "")
    assert recall_index(store, key) is None
    summary = pd.DataFrame({"count": [0, 10, 30, 0]})
    remember_index(store, key, summary, 100, "A text")
    assert recall_index(store, key) == IndexFigures(0.4, 0.5, 100, "A text")
    remember_index(store, key, pd.DataFrame({"count": [1, 1, 1, 1]}), 50, "Shorter")
    assert recall_index(store, key) == IndexFigures(0.4, 0.5, 100, "A text")
    remember_index(store, key, pd.DataFrame({"count": [1, 1, 1, 1]}), 200, "Longer")
    index = recall_index(store, key)
    assert index == IndexFigures(0.02, 0.0, 200, "Longer")
    l0 = combine_measurements(index, None).l0
    assert l0 is not None
    assert (l0.value, l0.n_tokens, l0.text) == (0.02, 200, "Longer")


@pytest.fixture
def open_home(settings: Settings) -> Iterator[Open]:
    with page_server(settings, HOME, link={"model": MODEL}) as open_link:
        yield open_link


def figures(app: object) -> dict[str, tuple[str, str]]:
    return {it.label: (it.value, it.delta) for it in app.metric}  # type: ignore[attr-defined]


def test_published_figures_stand_beside_ours(open_home: Open) -> None:
    app = open_home(release=RELEASE, sae=SAE_ID, latent="1")
    found = figures(app)
    assert found["Active per token"][0] == "7.5"
    assert found["Variance explained"][0] == f"{METRICS['explained_variance']:.1%}"
    for name in ("Active per token", "Variance explained", "Loss recovered", "Never active"):
        assert found[name][1].startswith("here ")
    assert "Measured here on 2,000 tokens of Documentation of the installed packages" in texts(app)


def test_a_users_own_is_measured(open_home: Open) -> None:
    app = open_home(release="saes", sae="mine", latent="1")
    found = figures(app)
    assert "unknown" not in str(found)
    assert {delta for _, delta in found.values()} == {"", "measured here"}
    assert "read where it was trained" in texts(app)  # its weights are random


@pytest.mark.slow
def test_an_unscaled_one_says_its_scale(open_home: Open) -> None:
    app = open_home(release="saes", sae="unscaled", latent="1")
    assert not app.error
    assert "Input scale estimated here on 4,1" in texts(app)
    assert "tokens of Documentation of the installed packages (±" in texts(app)


def test_a_dead_one_is_said_to_be_dead(open_home: Open) -> None:
    app = open_home(release="saes", sae="dead", latent="1")
    assert "No latent is active at any of 2,000 tokens" in texts(app)
    assert figures(app)["Never active"][0] == "100.0%"


@pytest.mark.slow
def test_an_index_is_preferred(open_home: Open, settings: Settings) -> None:
    app = open_home(release="saes", sae="mine", latent="1")
    entry = resources.catalog().entry("saes", "mine")
    counts = pd.DataFrame({"count": [0] * 32 + [10_000] * 32})
    key = (MODEL, "saes", "mine", entry.version)
    remember_index(resources.store(), key, counts, 100_000, "My corpus")
    app = settle(app)
    assert figures(app)["Never active"][0] == "50.0%"
    assert figures(app)["Active per token"][0] == "3.2"
    assert "L0 and never active on 100,000 tokens of My corpus; the others on 2,000" in texts(app)
