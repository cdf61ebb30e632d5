"""A headless Chromium; for test files that name this module in `pytest_plugins`."""

from collections.abc import Iterator

import pytest

from tests.browsing import CHROMIUM, PATIENCE_MS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
# What a page is to say after a click is waited for: an assertion at once is a race under load.
playwright.expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """One Chromium for a module."""
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-background-networking"]
        # Maps are drawn with WebGL, here by the CPU.
        options += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        options += ["--disable-component-update", "--disable-sync"]
        running = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture
def page(browser: "playwright.Browser") -> Iterator["playwright.Page"]:
    """A tab without cookies or history, which must not ask anybody but the server."""
    context = browser.new_context(viewport={"width": 1400, "height": 1500})
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    yield tab
    context.close()
    local = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    assert [url for url in requests if not url.startswith(local)] == []
