"""What every page owes a visitor, whichever page it is."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.settings import Settings
from pages.parts.registry import TOOLS
from tests.demo_bundle import write_demo

APP = str(Path(__file__).resolve().parent.parent / "app.py")
by_page = pytest.mark.parametrize("file", [tool.file for tool in TOOLS])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("pages") / "demo")


@pytest.fixture
def fresh_server(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A server that has only just started: nothing is imported, no list is read."""
    settings = Settings(cache_dir=tmp_path / "cache", demo_dir=demo, device="cpu")
    monkeypatch.setattr(resources, "settings", lambda: settings)
    resources.reset()
    warm_up = resources.warm_up()
    monkeypatch.setattr(warm_up, "start", lambda: None)
    monkeypatch.setattr(warm_up, "start_soon", lambda: None)
    warm_up.published, warm_up.libraries = Future(), Future()
    yield settings
    resources.reset()


def opened(file: str, **parameters: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in parameters.items():
        app.query_params[name] = value
    app.switch_page(file)
    return app.run()


def texts(app: AppTest) -> str:
    kinds = (app.title, app.markdown, app.caption, app.error, app.warning, app.info)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@by_page
def test_a_link_to_a_published_sae_is_followed_once_the_list_is_read(
    fresh_server: Settings, file: str
) -> None:
    link = {"model": "gpt2-small", "release": "gpt2-small-res-jb", "latent": "9"}
    app = opened(file, **link)
    assert not app.exception
    assert "Reading the list of published SAEs" in texts(app)
    assert app.query_params["release"] == "gpt2-small-res-jb", "the link is kept meanwhile"


@by_page
def test_a_page_stands_before_the_libraries_do(fresh_server: Settings, file: str) -> None:
    app = opened(file)
    assert not app.exception
    assert not app.error
    assert app.title
    assert "Starting" in texts(app)


@pytest.mark.slow
@by_page
def test_a_server_without_any_sae_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    settings = Settings(cache_dir=tmp_path / "cache", demo_dir=tmp_path / "none", device="cpu")
    monkeypatch.setattr(resources, "settings", lambda: settings)
    resources.reset()
    warm_up = resources.warm_up()
    monkeypatch.setattr(warm_up, "start", lambda: None)
    monkeypatch.setattr(warm_up, "start_soon", lambda: None)
    warm_up.published, warm_up.libraries = Future(), Future()
    warm_up.published.set_exception(RuntimeError("no list"))
    app = opened(file)
    assert not app.exception
    assert "There is nothing to explore yet" in texts(app)
    resources.reset()
