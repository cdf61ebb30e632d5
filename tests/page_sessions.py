"""Pages of the app in sessions of one server, without a browser."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import resources
from core.settings import Settings

APP = str(Path(__file__).resolve().parent.parent / "app.py")
Open = Callable[..., AppTest]


@contextmanager
def page_server(
    settings: Settings,
    file: str,
    *,
    link: Mapping[str, str] | None = None,
    replaced: Mapping[tuple[object, str], object] | None = None,
) -> Iterator[Open]:
    """A server whose libraries are there; what it hands out opens links to the page `file`.

    `link` is what every link holds unless it says otherwise, `replaced` what stands for the
    attributes of modules while the server runs, e.g. `{(evidence, "SAMPLE_TOKENS"): 2000}`.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(resources, "settings", lambda: settings)
    for (module, name), value in (replaced or {}).items():
        patch.setattr(module, name, value)
    resources.reset()
    resources.warm_up().start()
    resources.warm_up().libraries.result(timeout=300)

    def open_link(**parameters: str) -> AppTest:
        app = AppTest.from_file(APP, default_timeout=120)
        for name, value in {**(link or {}), **parameters}.items():
            app.query_params[name] = value
        app.switch_page(file)
        settle(app)
        assert other_defaults(app) == [], "a browser that draws them late sends these back"
        return app

    try:
        yield open_link
    finally:
        resources.reset()
        patch.undo()


def settle(app: AppTest) -> AppTest:
    """Run until a run neither finds a job under way nor begins or outlives one."""
    deadline = time.monotonic() + 240
    app.run()
    for _ in range(20):
        while busy():
            assert time.monotonic() < deadline, resources.jobs().jobs()
            time.sleep(0.05)
        before = known_jobs()
        app.run()
        if not busy() and known_jobs() == before:
            break
    return app


def other_defaults(app: AppTest) -> list[tuple[str, object, object]]:
    """Widgets whose default is not what they show: label, default, what is shown.

    Those of a session in which nothing was typed or chosen yet (see `pages.parts.page_state.show`).
    """
    found: list[tuple[str, object, object]] = []
    for it in (*app.toggle, *app.text_input, *app.text_area):
        found.append((it.label, it.proto.default, it.value))
    for it in app.number_input:
        default = it.proto.default if it.proto.HasField("default") else None
        found.append((it.label, default, it.value))
    for it in (*app.selectbox, *app.radio):
        found.append((it.label, it.proto.default, it.index or 0))
    for it in app.multiselect:
        found.append((it.label, [*it.proto.default], [*it.indices]))
    for it in app.get("button_group"):
        found.append((it.proto.label, [*it.proto.default], [*it.indices]))
    for it in app.slider:
        shown = it._widget_state.double_array_value.data
        found.append((it.label, [*it.proto.default], [*shown]))
    for it in app.select_slider:
        texts = it._widget_state.string_array_value.data
        found.append((it.label, [*it.proto.default], [it.options.index(text) for text in texts]))
    return [one for one in found if one[1] != one[2]]


def known_jobs() -> list[tuple[int, str]]:
    """Number and state of every job and load there has been."""
    views = [*resources.jobs().jobs(), *resources.loads().jobs()]
    return sorted((view.id, view.state.name) for view in views)


def busy() -> bool:
    """Whether a job or a load is under way."""
    views = [*resources.jobs().jobs(), *resources.loads().jobs()]
    return any(not view.state.finished for view in views)


def texts(app: AppTest) -> str:
    """All that the page says outside tables and widgets."""
    kinds = (app.title, app.subheader, app.markdown, app.caption)
    notes = (app.error, app.warning, app.info, app.success)
    return "\n".join(str(element.value) for kind in kinds + notes for element in kind)
