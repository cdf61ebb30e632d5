"""A large map in a real browser: drawn, zoomed, and what is selected is what lies inside."""

import re
from collections.abc import Iterator

import pytest

from tests.browsing import MARKS, demo_server
from tests.demo_bundle import write_demo

pytest_plugins = ("tests.browser_fixtures",)
pytestmark = [*MARKS, pytest.mark.slow]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
HOOK = "blocks.1.hook_resid_pre"
LINK = f"model=docs-small&release=docs-small-res-splitting&sae={HOOK}_64&latent=7"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("large-map")
    demo = write_demo(folder / "demo")
    with demo_server(demo, folder, module="tests.serve_large") as address:
        yield address


def test_a_box_around_everything_selects_everything(server: str, page) -> None:
    page.goto(f"{server}/feature-splitting?{LINK}")
    expect(page.locator("[data-drawn]")).to_have_attribute("data-drawn", "224")
    expect(page.locator(".point-map-legend")).to_contain_text("64 latents")
    canvas = page.locator(".point-map canvas").last
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.get_by_role("button", name="Box", exact=True).click()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=4)
    page.mouse.up()
    expect(page.get_by_text("224 latents selected")).to_be_visible()
    # The wheel zooms without the page, whose link follows.
    page.get_by_role("button", name="Pan", exact=True).click()
    page.mouse.move(*middle)
    page.mouse.wheel(0, -200)
    page.wait_for_url(re.compile("[?&]zoom="))
    page.get_by_role("button", name="Show all", exact=True).click()
    page.wait_for_url(lambda url: "zoom=" not in url)
