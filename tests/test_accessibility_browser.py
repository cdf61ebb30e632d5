"""Every page in both themes in headless Chromium: axe-core finds nothing serious, and the browser's
tabs and all plots have words."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browsing import MARKS, PATIENCE_MS, demo_server, settled
from tests.demo_bundle import write_demo

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = MARKS
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")

AXE = (Path(axe.__file__).parent / "axe.min.js").read_text()
_LINK = "release=docs-small-res-splitting&sae=blocks.1.hook_resid_pre_64&latent=7"
_PLACE = "blocks.1 · docs-small"
PAGES = {
    "?": f"SAE Latent Explorer · Latent 7 · {_PLACE}",
    "latent?": f"Latent 7 · {_PLACE}",
    "latent?tab=prompt&": f"Latent 7 · Prompt · {_PLACE}",
    "latent?tab=find&": f"Latent 7 · Find · {_PLACE}",
    "latent?tab=lens&": f"Latent 7 · Logit lens · {_PLACE}",
    "latent?tab=enrichment&": f"Latent 7 · Token enrichment · {_PLACE}",
    "latent?tab=browse&": f"Latent 7 · Browse · {_PLACE}",
    "latent?tab=lists&": f"Latent 7 · Lists · {_PLACE}",
    "dossier?": f"Dossier of latent 7 · {_PLACE}",
    "sae?": f"SAE as a whole · {_PLACE}",
    "feature-splitting?": f"Feature splitting · Latent 7 · {_PLACE}",
    "patch-scoping?": f"Patch scoping · Latent 7 · {_PLACE}",
    "steering?": f"Steering · Latent 7 · {_PLACE}",
    "gradients?": f"Latent gradients · Latent 7 · {_PLACE}",
    "gradients?tab=circuit&": f"Latent gradients · Circuit · Latent 7 · {_PLACE}",
    "autointerp?": f"Autointerp · {_PLACE}",
}
"""Pages, and what their tabs are called."""
STREAMLITS_OWN: dict[tuple[str, str], str] = {}
"""Rule and what the element's HTML holds: what Streamlit's widgets do and no app can change."""
ROWS = {"Cancel", "Open"}
"""Buttons that stand once in each row of a list of tasks, beside the task's name."""

_RUN = """() => axe.run(document, {resultTypes: ["violations"]}).then((found) =>
  found.violations.filter((it) => ["serious", "critical"].includes(it.impact)).flatMap((it) =>
    it.nodes.map((node) => ({rule: it.id, html: node.html.slice(0, 400),
      why: [...node.any, ...node.all, ...node.none].map((one) => one.message).join(" ")}))))"""
_IS_DRAWN_IN = """(theme) => {
  const ground = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor
  const light = ground.match(/[0-9.]+/g).slice(0, 3).reduce((sum, it) => sum + Number(it), 0)
  return theme === "dark" ? light < 200 : light > 600
}"""
_PLOTS = """() => [...document.querySelectorAll("[data-testid=stPlotlyChart]")].length"""
_BUTTONS = """() => [...document.querySelectorAll(
  "[data-testid=stMain] [data-testid=stButton], [data-testid=stMain] [data-testid=stDownloadButton]"
)].filter((it) => it.checkVisibility()).map((it) => it.innerText.trim().split("\\n").pop())"""
_SAID = """() => [...document.querySelectorAll(".sx-said")].map((it) => it.innerText)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fresh server on the tiny bundle."""
    folder = tmp_path_factory.mktemp("accessibility")
    with demo_server(write_demo(folder / "demo"), folder) as address:
        yield address


def violations(tab: "playwright.Page") -> list[str]:
    """What axe finds and still finds a moment later: a page that is being drawn passes through
    states that nobody can use, such as a sidebar before its widgets."""
    left: list[str] = []
    for look in range(5):
        left = [
            f"{one['rule']}: {one['html']} {one['why']}"
            for one in tab.evaluate(_RUN)
            if not any(one["rule"] == rule and part in one["html"] for rule, part in STREAMLITS_OWN)
        ]
        if not left:
            break
        tab.wait_for_timeout(500 * (look + 1))
        settled(tab)
    return left


def test_nothing_serious_is_found_on_any_page(server: str, browser: "playwright.Browser") -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    found: list[str] = []
    for path, title in PAGES.items():
        tab.emulate_media(color_scheme="light")
        tab.goto(f"{server}/{path}{_LINK}")
        tab.wait_for_function("title => document.title === title", arg=title)
        tab.wait_for_function("() => !document.body.innerText.includes('Starting: loading')")
        settled(tab)
        tab.evaluate(AXE)
        for theme in ("light", "dark"):
            tab.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            tab.wait_for_function(_IS_DRAWN_IN, arg=theme)
            settled(tab)
            found += [f"{path} {theme}: {it}" for it in violations(tab)]
        names = [name for name in tab.evaluate(_BUTTONS) if name]
        found += [
            f"{path}: two buttons “{it}”"
            for it in {*names}
            if names.count(it) > 1 and it not in ROWS
        ]
        said = tab.evaluate(_SAID)
        assert len(said) >= tab.evaluate(_PLOTS), path
        assert all(len(words) > len("Plot: ") + 20 for words in said), (path, said)
    context.close()
    assert not found, "\n".join(found)
