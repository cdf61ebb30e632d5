"""A newcomer's walk in headless Chromium: who types and clicks at once gets what was typed."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browsing import MARKS, PATIENCE_MS, demo_server, settled
from tests.demo_bundle import write_demo

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = [*MARKS, pytest.mark.slow]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SAE = "release=docs-small-res&sae=blocks.1.hook_resid_pre"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fresh server on the tiny bundle."""
    folder = tmp_path_factory.mktemp("walk")
    with demo_server(write_demo(folder / "demo"), folder) as address:
        yield address


def _open(page: "playwright.Page", address: str, text: str) -> None:
    page.goto(address)
    page.get_by_text(text).first.wait_for()
    settled(page)


def _at_once(page: "playwright.Page", field: "playwright.Locator", text: str, button: str) -> None:
    """Type, and click without leaving the field first."""
    field.fill(text)
    page.get_by_role("button", name=button, exact=True).click()
    settled(page)


def _query(page: "playwright.Page") -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def _until(page: "playwright.Page", name: str, value: str) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while _query(page).get(name) != [value] and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert _query(page).get(name) == [value]


def test_the_number_of_the_sidebar_is_stepped_from(server: str, page: "playwright.Page") -> None:
    _open(page, f"{server}/latent?{SAE}&latent=3&tokens=3000", "Strongest examples")
    number = page.get_by_role("spinbutton", name=re.compile("^Latent"))
    _at_once(page, number, "40", "Next")
    _until(page, "latent", "41")
    _at_once(page, number, "12", "Previous")
    _until(page, "latent", "11")


def test_words_typed_of_a_latent_are_kept_and_can_be_deleted(
    server: str, page: "playwright.Page"
) -> None:
    _open(page, f"{server}/latent?{SAE}&latent=5&tokens=3000", "Strongest examples")
    page.get_by_role("button", name="Describe it").click()
    box = page.get_by_role("textbox", name="Your description")
    _at_once(page, box, "what I think", "Save")
    page.get_by_role("heading", name="what I think").wait_for()
    page.reload()
    page.get_by_role("heading", name="what I think").wait_for()
    settled(page)
    page.get_by_role("button", name="Change your description").click()
    playwright.expect(box).to_have_value("what I think")
    page.get_by_role("button", name="Delete yours").click()
    page.get_by_role("heading", name="what I think").wait_for(state="detached")


def test_notes_typed_are_on_the_list(server: str, page: "playwright.Page") -> None:
    _open(page, f"{server}/latent?{SAE}&latent=5&tokens=3000&tab=lists", "There are no lists yet")
    page.get_by_role("button", name="Add to a list").click()
    _at_once(page, page.get_by_role("textbox", name="Note", exact=True), "a first note", "Add")
    note = page.get_by_role("textbox", name="Note on latent 5")
    note.wait_for()
    settled(page)
    playwright.expect(note).to_have_value("a first note")
    page.keyboard.press("Escape")
    _at_once(page, note, "a second note", "Save the note")
    page.get_by_text("The note is saved").wait_for()
    page.reload()
    note.wait_for()
    settled(page)
    playwright.expect(note).to_have_value("a second note")
    # A click on a line, and not only on its box, opens it, from the top of the page.
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 250, box["y"] + 35 + 17)
    page.get_by_text("Strongest examples").first.wait_for()
    settled(page)
    page.wait_for_timeout(1200)
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop === 0")
    # The part that is shown stays marked when it is clicked again.
    part = page.get_by_role("radio", name="Dashboard")
    part.click()
    settled(page)
    playwright.expect(part).to_have_attribute("aria-checked", "true")


def test_a_run_is_of_as_many_latents_as_typed(server: str, page: "playwright.Page") -> None:
    link = f"{server}/autointerp?{SAE}&latent=5&n=9&tokens=3000&buffer=4&controls=0"
    _open(page, link, "Runs on this machine alone")
    number = page.get_by_role("spinbutton", name="How many")
    _at_once(page, number, "2", "Explain and score")
    page.get_by_text("Mean balanced accuracy").wait_for()
    _until(page, "n", "2")
    page.get_by_text("A click on a line opens the latent below").wait_for()
    page.get_by_role("radio", name="Edit and score again").click()
    own = page.get_by_role("textbox", name=re.compile("^Your explanation"))
    own.wait_for()
    settled(page)
    before = _query(page)["run"]
    _at_once(page, own, 'the word "array"', "Score it")
    # A table keeps its texts in cells that are not painted.
    page.get_by_text('the word "array"').first.wait_for(state="attached")
    page.wait_for_function("run => !location.search.includes(run)", arg=before[0])


def test_from_a_latent_to_every_page_without_typing(
    server: str, page: "playwright.Page", tmp_path: Path
) -> None:
    _open(page, f"{server}/latent?{SAE}&latent=5&tokens=3000", "Strongest examples")
    page.get_by_role("link", name="What feeds it").wait_for()
    page.get_by_role("link", name="Explain it in words").wait_for()
    links = page.get_by_test_id("stMain").get_by_test_id("stPageLink-NavLink")
    hrefs = [one.get_attribute("href") or "" for one in links.all()]
    addresses = {f"/{urlsplit(it).path.strip('/')}": f"{server}/{it.lstrip('/')}" for it in hrefs}
    feeds = parse_qs(urlsplit(addresses["/gradients"]).query)
    assert feeds["only"] == ["1"]
    assert feeds["prompt"][0].strip()
    words = parse_qs(urlsplit(addresses["/autointerp"]).query)
    assert words["choose"] == ["this"]
    for path in ("/gradients", "/feature-splitting", "/patch-scoping", "/steering"):
        assert parse_qs(urlsplit(addresses[path]).query)["latent"] == ["5"]
    page.goto(addresses["/gradients"])
    page.get_by_text("Only latent 5", exact=True).wait_for()
    playwright.expect(page.get_by_role("switch", name="Only latent 5")).to_be_checked()
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_have_value(feeds["prompt"][0])
    page.goto(addresses["/autointerp"])
    page.get_by_text("Latent 5, as chosen on the left").first.wait_for()


def test_a_map_stays_when_a_latent_of_another_of_its_saes_is_chosen(
    server: str, page: "playwright.Page"
) -> None:
    family = "release=docs-small-res-splitting&sae=blocks.1.hook_resid_pre_64&latent=7"
    _open(page, f"{server}/feature-splitting?{family}", "made offline")
    saes = _query(page)["saes"]
    assert len(saes[0].split(",")) > 1
    other = saes[0].split(",")[0]
    page.get_by_role("combobox", name="SAE", exact=True).click()
    page.get_by_role("option", name=other, exact=True).click()
    _until(page, "sae", other)
    settled(page)
    assert _query(page)["saes"] == saes


def test_a_description_is_found_from_home_and_its_latent_opened(
    server: str, page: "playwright.Page"
) -> None:
    _open(page, f"{server}/latent?{SAE}&latent=6&tokens=3000", "Strongest examples")
    page.get_by_role("button", name="Describe it").click()
    _at_once(page, page.get_by_role("textbox", name="Your description"), "quaint words", "Save")
    page.get_by_role("heading", name="quaint words").wait_for()
    other = "release=docs-small-res-splitting&sae=blocks.1.hook_resid_pre_64"
    _open(page, f"{server}/?{other}&latent=7", "Same place at other widths")
    search = page.get_by_role("textbox", name=re.compile("^Search what is said"))
    search.fill("words quaint")
    search.press("Enter")
    page.get_by_text("1 description of").wait_for()
    _until(page, "find", "words quaint")
    settled(page)
    found = page.url
    table = page.get_by_test_id("stDataFrame").first
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 200, box["y"] + 35 + 17)
    page.get_by_role("heading", name="Latent 6", exact=True).wait_for()
    page.goto(found)
    page.get_by_text("1 description of").wait_for()
    # A width beside this one is chosen where it stands: a link to the same page leads nowhere.
    settled(page)
    width = page.get_by_test_id("stMain").get_by_role("button", name=re.compile(r"^\d+$")).first
    label = width.inner_text()
    width.click()
    page.wait_for_function("it => location.search.includes('hook_resid_pre_' + it)", arg=label)


def test_an_example_opens_its_text_which_follows_to_the_next_page(
    server: str, page: "playwright.Page"
) -> None:
    _open(page, f"{server}/latent?{SAE}&latent=5&tokens=3000", "Strongest examples")
    page.locator("button.lx-open").first.click()
    page.get_by_text("tokens; active at").wait_for()
    before = page.get_by_role("textbox", name="Your text").input_value()
    page.get_by_role("button", name="Try this text").click()
    box = page.get_by_role("textbox", name="Your text")
    playwright.expect(box).not_to_have_value(before)
    text = box.input_value()
    settled(page)
    page.get_by_role("radio", name="Prompt").click()
    playwright.expect(page.get_by_role("textbox", name="Text", exact=True)).to_have_value(text)
