"""The running app in headless Chromium: first paint, links, typing, and who is asked for what."""

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browsing import MARKS, PATIENCE_MS, demo_server, settled
from tests.demo_bundle import write_demo

"""The aim is 2 s on an idle machine; tests may share theirs with others."""

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = MARKS
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fresh server on the tiny bundle."""
    folder = tmp_path_factory.mktemp("browser")
    with demo_server(write_demo(folder / "demo"), folder) as address:
        yield address


# The order matters: this one meets the server before its libraries are there.
def test_first_paint_comes_before_the_libraries(server: str, page: "playwright.Page") -> None:
    page.goto(server, wait_until="commit")
    page.get_by_text("A sparse autoencoder (SAE) takes").wait_for()
    page.get_by_text("Starting: loading the libraries").wait_for()
    page.get_by_text("Active per token").wait_for()
    before = page.get_by_text("Your text").bounding_box()
    _wait_until_loaded(page)
    after = page.get_by_text("Your text").bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 40


def test_choices_go_into_the_link_and_back(
    server: str, page: "playwright.Page", browser: "playwright.Browser"
) -> None:
    page.goto(server)
    _wait_until_loaded(page)
    for latent in (1, 2, 3):
        page.get_by_role("button", name="Next", exact=True).click()
        page.get_by_role("heading", name=f"Latent {latent}", exact=True).wait_for()
    page.get_by_role("combobox", name="SAE", exact=False).last.click()
    page.get_by_role("option", name="blocks.2.hook_resid_pre").click()
    page.wait_for_url("**sae=blocks.2.hook_resid_pre**")
    _wait_until_loaded(page)
    link = page.url
    assert parse_qs(urlsplit(link).query) == {
        "model": ["docs-small"],
        "release": ["docs-small-res"],
        "sae": ["blocks.2.hook_resid_pre"],
        "latent": ["3"],
    }
    context = browser.new_context(viewport={"width": 1400, "height": 1500})
    context.set_default_timeout(PATIENCE_MS)
    other = context.new_page()
    other.goto(link)
    _wait_until_loaded(other)
    other.get_by_role("heading", name="Latent 3", exact=True).wait_for()
    # What either page showed before its last run may still stand for a moment.
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (other.url, _main(other)) != (link, _main(page)) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert other.url == link
    assert _main(other) == _main(page)
    context.close()


def test_back_button_shows_the_view_before(server: str, page: "playwright.Page") -> None:
    page.goto(f"{server}/?latent=7")
    _wait_until_loaded(page)
    page.get_by_role("button", name="Next", exact=True).click()
    page.wait_for_url("**latent=8**")
    page.get_by_role("heading", name="Latent 8", exact=True).wait_for()
    time.sleep(1.5)  # a request sent within a second of a new link counts as older than the link
    page.go_back()
    page.get_by_role("heading", name="Latent 7", exact=True).wait_for()
    page.wait_for_url("**latent=7**")


def test_back_button_goes_back_one_page_a_press(server: str, page: "playwright.Page") -> None:
    page.goto(f"{server}/?latent=7")
    _wait_until_loaded(page)
    page.locator(".st-key-back_button").wait_for(state="attached")  # after the first imports
    # This page completes its address with the set of SAEs that it shows.
    page.get_by_role("link", name="Feature splitting", exact=True).first.click()
    page.wait_for_url("**/feature-splitting?**saes=**")
    settled(page)
    page.go_back()
    page.wait_for_url(f"{server}/?**latent=7**")
    page.get_by_role("heading", name="Latent 7", exact=True).wait_for()


def test_typed_text_is_shaded(server: str, page: "playwright.Page") -> None:
    page.goto(server)
    _wait_until_loaded(page)
    box = page.get_by_role("textbox", name="Your text")
    box.fill("<img src=x onerror=a> ![p](//x.y/p) :smile: a->b $x$ `c`")
    box.press("Control+Enter")
    shaded = page.get_by_test_id("stMarkdown").filter(has_text="onerror")
    shaded.wait_for()
    text = shaded.inner_text().replace("\u2060", "").replace("\u200b", "").replace("\u00a0", " ")
    for piece in ("<img src=x onerror=a>", "![p](//x.y/p)", ":smile:", "a->b", "$x$", "`c`"):
        assert piece in text
    assert shaded.locator("img").count() == 0
    assert shaded.locator("span[style*=background]").count() > 0


def test_bad_link_is_one_sentence(server: str, page: "playwright.Page") -> None:
    page.goto(f"{server}/?release=![x](http://198.51.100.1/x.png)&latent=5")
    page.get_by_text("The SAE of this link cannot be shown").wait_for()
    assert page.get_by_test_id("stException").count() == 0
    _wait_until_loaded(page)


def _wait_until_loaded(page: "playwright.Page") -> None:
    page.get_by_text("tokens, at most").or_(page.get_by_text("Not active at any")).wait_for()


def _main(page: "playwright.Page") -> list[str]:
    """Texts of the page beside the sidebar, whose memory figures change."""
    return page.get_by_test_id("stMain").get_by_test_id("stMarkdown").all_inner_texts()


_VISIBLE = """() => {
  const { xaxis, yaxis } = document.querySelector(".js-plotly-plot")._fullLayout
  return [...xaxis.range, ...yaxis.range]
}"""
_POINT_NEAR_MIDDLE = """() => {
  const chart = document.querySelector(".js-plotly-plot")
  const { xaxis, yaxis, width, height } = chart._fullLayout
  for (const trace of chart._fullData.filter((it) => it.customdata))
    for (let i = 0; i < trace.x.length; i++) {
      const x = xaxis.l2p(trace.x[i]) + xaxis._offset
      const y = yaxis.l2p(trace.y[i]) + yaxis._offset
      if (Math.abs(x - width / 2) < width / 4 && Math.abs(y - height / 2) < height / 4)
        return [x, y]
    }
}"""


_FAMILY = "release=docs-small-res-splitting&sae=blocks.1.hook_resid_pre_64&latent=7"


def test_map_is_clicked_and_zoomed_and_its_link_shows_the_same(
    server: str, browser: "playwright.Browser", page: "playwright.Page"
) -> None:
    page.goto(f"{server}/feature-splitting?{_FAMILY}")
    chart = page.locator(".js-plotly-plot").last  # the one before may still stand
    chart.wait_for()
    assert page.get_by_text("Page not found").count() == 0
    page.get_by_text("made offline").first.wait_for()  # the map is drawn again for descriptions
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while "latent=7&" in page.url and time.monotonic() < deadline:
        settled(page)
        box = chart.bounding_box()
        assert box is not None
        x, y = page.evaluate(_POINT_NEAR_MIDDLE)
        page.mouse.click(box["x"] + x, box["y"] + y)
        page.wait_for_timeout(3000)
    chosen = page.url
    while "zoom=" not in page.url and time.monotonic() < deadline:
        settled(page)
        box = chart.bounding_box()  # a panel may have moved the map
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(3000)
    assert (
        parse_qs(urlsplit(page.url).query)["latent"] == parse_qs(urlsplit(chosen).query)["latent"]
    )
    zoom = parse_qs(urlsplit(page.url).query)["zoom"][0]
    context = browser.new_context(viewport={"width": 1400, "height": 1500})
    context.set_default_timeout(PATIENCE_MS)
    other = context.new_page()
    other.goto(f"{server}/feature-splitting?{_FAMILY}&zoom={zoom}")
    other.locator(".js-plotly-plot").last.wait_for()
    settled(other)
    wanted = [float(value) for value in zoom.split(",")]
    close = f"wanted => ({_VISIBLE})().every((end, i) => Math.abs(end - wanted[i]) < 0.1)"
    other.wait_for_function(close, arg=wanted)
    context.close()


def test_lasso_lists_latents_and_its_link_lists_the_same(
    server: str, browser: "playwright.Browser", page: "playwright.Page"
) -> None:
    page.goto(f"{server}/feature-splitting?{_FAMILY}")
    chart = page.locator(".js-plotly-plot").last  # the one before may still stand
    chart.wait_for()
    page.get_by_text("made offline").first.wait_for()  # the map is drawn again for descriptions
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while "in_lasso=" not in page.url and time.monotonic() < deadline:
        chart.locator("[data-val=lasso]").click()
        box = chart.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        size = min(box["width"], box["height"]) / 4
        page.mouse.move(x - size, y - size)
        page.mouse.down()
        for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -0.9)):
            page.mouse.move(x + right * size, y + down * size, steps=4)
        page.mouse.up()
        page.wait_for_timeout(3000)
    assert parse_qs(urlsplit(page.url).query)["panel"] == ["selection"]
    selected = page.get_by_text(re.compile(r"^\d+ latents selected$"))
    count = selected.inner_text()
    assert 0 < int(count.split()[0]) < 224
    assert page.get_by_text("Tokens that they make more likely unusually often").count() == 1
    context = browser.new_context(viewport={"width": 1400, "height": 1500})
    context.set_default_timeout(PATIENCE_MS)
    other = context.new_page()
    other.goto(page.url)
    other.get_by_text(count, exact=True).wait_for()
    context.close()


_BOX_OF_A_CHILD = """() => {
  const chart = document.querySelector(".st-key-splitting_tree .js-plotly-plot")
  const { xaxis, yaxis } = chart._fullLayout
  const nodes = chart._fullData.find((it) => it.customdata)
  const child = nodes.x.findIndex((it) => it > nodes.x[0] + 0.5)
  const where = chart.getBoundingClientRect()
  return [
    where.x + xaxis._offset + xaxis.l2p(nodes.x[child] + 0.3),
    where.y + yaxis._offset + yaxis.l2p(nodes.y[child]),
    nodes.hovertext[child],
  ]
}"""


def test_click_on_a_box_of_the_tree_chooses_its_latent(
    server: str, page: "playwright.Page"
) -> None:
    page.goto(f"{server}/feature-splitting?{_FAMILY}&panel=tree")
    tree = page.locator(".st-key-splitting_tree .js-plotly-plot")
    tree.wait_for()
    page.get_by_text("made offline").first.wait_for()  # as above
    deadline = time.monotonic() + PATIENCE_MS / 1000
    said = ""
    while "latent=7&" in page.url and time.monotonic() < deadline:
        tree.scroll_into_view_if_needed()
        x, y, said = page.evaluate(_BOX_OF_A_CHILD)
        page.mouse.click(x, y)
        page.wait_for_timeout(3000)
    query = parse_qs(urlsplit(page.url).query)
    assert said.startswith(f"<b>{query['sae'][0]}</b> · latent {query['latent'][0]}")
    assert query["panel"] == ["tree"]
    page.get_by_text(f"Latent {query['latent'][0]} of").first.wait_for()
