"""The app on a tiny bundle, without a browser; a browser drives it in test_browser.py."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.engine import Engine
from core.hub import DownloadPlan, PlannedFile
from core.jobs.progress import Progress
from core.settings import Settings
from core.view import loading
from core.view.selection import PARAMETERS, Selection
from tests.demo_bundle import write_demo, write_user_sae
from tests.sae_folders import put_model, put_sae

pytestmark = pytest.mark.slow

APP = str(Path(__file__).resolve().parent.parent / "app.py")
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("app") / "demo")


@pytest.fixture
def settings(demo: Path, tmp_path: Path) -> Settings:
    return Settings(
        cache_dir=tmp_path / "cache",
        demo_dir=demo,
        device="cpu",
        user_sae_dirs=(tmp_path / "mine",),
    )


@pytest.fixture
def open_app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens links in sessions of one server, whose libraries are there already."""
    (settings.user_sae_dirs[0]).mkdir(parents=True)
    monkeypatch.setattr(resources, "settings", lambda: settings)
    resources.reset()

    def open_link(**parameters: str) -> AppTest:
        resources.warm_up().start()
        resources.warm_up().libraries.result(timeout=120)
        app = AppTest.from_file(APP, default_timeout=60)
        for name, value in parameters.items():
            app.query_params[name] = value
        return settle(app)

    yield open_link
    resources.reset()


def settle(app: AppTest) -> AppTest:
    """Run until nothing is being loaded any more, as the browser's polling does."""
    app.run()
    deadline = time.monotonic() + 60
    while any(not view.state.finished for view in resources.loads().jobs()):
        assert time.monotonic() < deadline, resources.loads().jobs()
        time.sleep(0.05)
    return app.run()


def texts(app: AppTest) -> str:
    """All that the page says."""
    kinds = (app.markdown, app.caption, app.subheader, app.error, app.warning, app.info)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def shown(app: AppTest) -> dict[str, str]:
    """The link that the page has written."""
    return {name: value for name, value in app.query_params.items() if name in PARAMETERS}


def test_default_view(open_app: Open) -> None:
    app = open_app()
    assert not app.exception
    assert not app.error
    assert shown(app) == {
        "model": "docs-small",
        "release": "docs-small-res",
        "sae": "blocks.1.hook_resid_pre",
        "latent": "0",
    }
    assert [metric.value for metric in app.metric] == ["64", "7.5", "91.2%", "95.3%", "11.0%"]
    boosted, suppressed, activations = (frame.value for frame in app.dataframe)
    assert len(boosted) == len(suppressed) == 10
    assert boosted["pushed up by"].is_monotonic_decreasing
    assert 0 < (activations["activation"] > 0).sum() < len(activations)
    assert "documentation of the installed packages in pieces of 64 tokens" in texts(app)


def test_link_shows_its_view(open_app: Open) -> None:
    link = {
        "model": "docs-small-it",
        "release": "docs-small-res-splitting",
        "sae": "blocks.1.hook_resid_pre_128",
        "latent": "100",
    }
    app = open_app(**link)
    assert not app.error
    # The SAE's weights are random, and the check of its fit says so.
    others = [it.value for it in app.warning if "read where it was trained" not in it.value]
    assert all("left out" in it for it in others)
    assert shown(app) == link
    assert app.selectbox(key="choose_model").value == "docs-small-it"
    assert app.number_input(key="choose_latent").value == 100
    assert "Latent 100" in texts(app)
    # The figures are those of that latent: another one has others.
    before = app.dataframe[0].value
    app.button(key="latent_next").click()
    app.run()
    assert shown(app)["latent"] == "101"
    assert app.dataframe[0].value["token"].tolist() != before["token"].tolist()


def test_an_sae_of_attention_works(open_app: Open) -> None:
    app = open_app(release="docs-small-hook-z", latent="3")
    assert not app.error
    assert len(app.dataframe) == 3


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("model", "gpt5", "Unknown model 'gpt5'"),
        ("release", "nothing", "Unknown release 'nothing'"),
        ("sae", "../../etc", "no SAE '../../etc'"),
        ("latent", "64", "choose a number from 0 to 63"),
        ("latent", "<script>", "choose a number from 0 to 63"),
    ],
)
def test_bad_link_values_get_one_sentence(
    open_app: Open, name: str, value: str, sentence: str
) -> None:
    app = open_app(**{name: value})
    assert not app.exception
    assert not app.error
    said = [it.value for it in app.warning if "link" in it.value]
    assert len(said) == 1
    assert sentence in said[0]
    assert shown(app)["sae"] == "blocks.1.hook_resid_pre"
    assert shown(app)["latent"] == "0"
    # It goes away with the next choice.
    app.button(key="latent_next").click()
    app.run()
    assert not [it.value for it in app.warning if "link" in it.value]


def test_menus_change_the_link(open_app: Open) -> None:
    app = open_app(latent="50")
    app.selectbox(key="choose_release").set_value("docs-small-res-splitting")
    settle(app)
    assert shown(app)["sae"] == "blocks.1.hook_resid_pre_32"
    assert shown(app)["latent"] == "0"
    app.selectbox(key="choose_sae").set_value("blocks.1.hook_resid_pre_64")
    settle(app)
    app.number_input(key="choose_latent").set_value(63)
    app.run()
    assert shown(app)["latent"] == "63"
    app.button(key="latent_next").click()  # there is none after it
    app.run()
    assert shown(app)["latent"] == "63"
    app.button(key="latent_previous").click()
    app.run()
    assert shown(app)["latent"] == "62"
    app.button(key="latent_random").click()
    app.run()
    assert 0 <= int(shown(app)["latent"]) < 64
    assert not app.error


def test_text_is_shown_as_it_is(open_app: Open) -> None:
    app = open_app()
    app.text_area(key="live_text").set_value("<b>x</b> ![i](http://e.example/i.png)")
    app.run()
    shaded = next(it.value for it in app.markdown if "background" in it.value)
    assert "![" not in shaded
    assert "<b>" not in shaded
    assert "".join(app.dataframe[2].value["token"]).startswith("<b>x</b>␣!")
    app.text_area(key="live_text").set_value("  ")
    app.run()
    assert not app.error
    assert "Type a few words above" in texts(app)


def test_users_sae_appears_without_restart(open_app: Open, settings: Settings) -> None:
    app = open_app()
    releases = app.selectbox(key="choose_release")
    assert "mine (yours)" not in releases.options
    write_user_sae(settings.user_sae_dirs[0] / "my-sae")
    time.sleep(1.1)  # menus are at most a second old
    app.run()
    assert "mine (yours)" in app.selectbox(key="choose_release").options
    app.selectbox(key="choose_release").set_value("mine")
    settle(app)
    assert shown(app)["sae"] == "my-sae"
    assert not app.error
    assert len(app.dataframe) == 3
    # And when the folder is gone, the page says so and goes on.
    shutil.rmtree(settings.user_sae_dirs[0] / "my-sae")
    time.sleep(1.1)
    settle(app)
    assert not app.exception
    assert "cannot be shown" in app.warning[0].value
    assert shown(app)["release"] == "docs-small-res"


def test_broken_sae_is_shown_with_its_reason(open_app: Open, settings: Settings) -> None:
    folder = write_user_sae(settings.user_sae_dirs[0] / "broken")
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    app = open_app()
    assert "mine (yours)" not in app.selectbox(key="choose_release").options
    assert "**mine / broken**" in texts(app)
    assert "is corrupted" in texts(app)
    app = open_app(release="mine", sae="broken")
    assert "is corrupted" in app.warning[0].value


def test_sae_for_another_model_says_so(open_app: Open, settings: Settings) -> None:
    write_user_sae(settings.user_sae_dirs[0] / "lost", model_name="no-such-model")
    app = open_app(release="mine", sae="lost")
    assert not app.exception
    assert "'no-such-model'" in app.warning[0].value


def test_published_sae_offline_shows_the_plan(open_app: Open) -> None:
    app = open_app(release="gpt2-small-res-jb", sae="blocks.8.hook_resid_pre", latent="9")
    assert not app.exception
    assert not app.error
    assert shown(app)["model"] == "gpt2-small"
    assert "HF_HUB_OFFLINE forbids downloading" in app.warning[0].value
    assert app.button(key="download_and_load").disabled
    assert "This must be downloaded first" in texts(app)
    assert [view.key for view in resources.loads().jobs() if "plan:" not in view.key] == []


def test_nothing_is_downloaded_without_a_click(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PlannedFile(repo_id="gpt2", filename="model.safetensors", size=548_000_000)
    part = DownloadPlan(
        name="gpt2-small",
        files=(file,),
        disk_free=10**12,
        memory_needed=10**9,
        memory_free=10**10,
    )
    monkeypatch.setattr(loading, "plan", lambda *_: loading.LoadPlan((part, part)))
    asked: list[Selection] = []

    def load(engine: Engine, selection: Selection, progress: Progress) -> None:
        asked.append(selection)
        while True:
            progress.update(274_000_000, 548_000_000, unit="bytes", message="model.safetensors")
            time.sleep(0.01)

    monkeypatch.setattr(loading, "load", load)
    app = open_app(release="gpt2-small-res-jb", sae="blocks.8.hook_resid_pre")
    app.run()
    assert asked == []
    assert app.dataframe[0].value["To download"].tolist() == ["548 MB", "548 MB"]
    app.button(key="download_and_load").click()
    app.run()
    assert [it.sae_id for it in asked] == ["blocks.8.hook_resid_pre"]
    job = resources.loads().jobs()[0]
    assert job.fraction == 0.5
    app.button(key=f"cancel_load_{job.id}").click()
    app.run()
    app = settle(app)
    assert "This was cancelled." in app.error[0].value
    app.button(key=f"retry_{job.id}").click()
    app.run()
    assert not app.error
    assert app.button(key="download_and_load").label == "Download and load"


@pytest.mark.unexpected
def test_unexpected_errors_get_a_reference_and_no_traceback(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = open_app()

    def fail(*_: object, **__: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr("core.logit_statistics.logit_effects", fail)
    app.run()
    assert not app.exception
    assert "Something went wrong here" in app.error[0].value
    assert "secret" not in texts(app)
    reference = app.error[0].value.split("reference ")[1][:8]
    record = next(it for it in caplog.records if reference in it.getMessage())
    assert record.exc_info is not None
    assert "secret detail" in str(record.exc_info[1])


def test_running_jobs_are_listed_and_can_be_cancelled(open_app: Open) -> None:
    app = open_app()

    def work(progress: object) -> None:
        for step in range(10_000):
            progress.update(step, 10_000, unit="tokens")  # type: ignore[attr-defined]
            time.sleep(0.01)

    job = resources.jobs().submit("endless", "Endless work", work)
    app.run()
    assert app.button(key=f"cancel_list_{job.id}").label == "Cancel"
    app.button(key=f"cancel_list_{job.id}").click()
    app.run()
    assert job.wait(10)
    app.run()
    assert "Endless work: cancelled" in texts(app)


def test_without_any_local_sae_the_published_ones_are_offered(
    open_app: Open, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = replace(settings, demo_dir=tmp_path / "nothing", user_sae_dirs=())
    monkeypatch.setattr(resources, "settings", lambda: alone)
    resources.reset()
    app = open_app()
    assert not app.exception
    assert not app.error
    assert len(app.selectbox(key="choose_model").options) > 30


def test_models_of_one_folder_name_are_told_apart(open_app: Open, settings: Settings) -> None:
    """A menu sends back its label: of two that look alike the wrong one would be taken."""
    names = []
    for place in ("first", "second"):
        model = put_model(settings.user_sae_dirs[0].parent / place / "my-model")
        put_sae(settings.user_sae_dirs[0] / place, "blocks.0.hook_resid_pre", model_name=str(model))
        names.append(str(model))
    app = open_app()
    menu = app.sidebar.selectbox(key="choose_model")
    mine = [label for label in menu.options if label.endswith("my-model (yours)")]
    assert mine == [f"{name} · my-model (yours)" for name in names]
