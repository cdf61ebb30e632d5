"""One reader of a server in a browser: what they do, how long it takes, which numbers they see."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Page

PATIENCE_MS = 600_000
"""For the first dashboard of an SAE, a text is read, which takes minutes on a busy machine."""
_CALM_MS = 400
_DASHBOARD = ["Strongest examples|may be dead", "Try a text", "This latent elsewhere"]
_NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")

_WATCH = """() => {
  window.lastChange = performance.now()
  // What runs on the server is listed anew each second; that is no part of the view.
  window.isBelow = (node) => {
    const all = [...document.querySelectorAll("[data-testid=stMain] h3")]
    const list = all.find((it) => it.textContent.startsWith("Running tasks"))
    return list && list.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING
  }
  const main = () => document.querySelector("[data-testid=stMain]")
  new MutationObserver((changes) => {
    if (changes.some((it) => main()?.contains(it.target) && !window.isBelow(it.target)))
      window.lastChange = performance.now()
  }).observe(document.body, { childList: true, subtree: true, characterData: true })
}"""
_SETTLED = """([wanted, calm]) => {
  const app = document.querySelector("[data-testid=stApp]")
  const main = document.querySelector("[data-testid=stMain]")
  if (!app || !main || app.dataset.testScriptState !== "notRunning") return false
  const stale = [...main.querySelectorAll("[data-stale=true]")]
  if (stale.some((it) => !window.isBelow(it))) return false
  if (performance.now() - window.lastChange < calm) return false
  // How far a job is, is no part of the view either.
  const bars = [...main.querySelectorAll("[data-testid=stProgress]")]
  if (bars.some((it) => !window.isBelow(it))) return false
  // A plot's numbers come with its axes, which are drawn after the script has ended.
  const plots = [...main.querySelectorAll("[data-testid=stPlotlyChart]")]
  if (plots.some((it) => !it.querySelector(".main-svg, .gl-container"))) return false
  if (main.querySelector("[data-testid=stSkeleton], [data-testid=stAppSkeleton]")) return false
  // Shaded tokens have spaces that do not vanish, and places where a line may break.
  const shown = main.innerText.replaceAll("\\u00a0", " ").replaceAll("\\u200b", "")
  const isThere = (it) => it.split("|").some((either) => shown.includes(either))
  return wanted.every(isThere) ? window.lastChange : false
}"""
_SHOWN = """() => {
  const main = document.querySelector("[data-testid=stMain]")
  const found = [main.innerText.split("\\nTools\\n")[0]]
  for (const it of main.querySelectorAll("[data-v]")) found.push(it.dataset.v)
  for (const it of main.querySelectorAll("canvas td, .sx-said")) found.push(it.textContent)
  return found.join("\\n")
}"""
"""Everything in the middle of the page: texts, values of shaded tokens, cells of tables (which lie
within the canvas that draws them), words of plots. Not the list of what runs below the tools."""


@dataclass(frozen=True)
class Reader:
    """Somebody with an SAE, latents and texts of their own."""

    name: str
    """Their address."""
    sae: str
    """The SAE they look at, of the release `docs-small-res`."""
    latents: tuple[int, ...]
    """The latents they look at."""
    texts: tuple[str, ...]
    """What they type."""

    @property
    def link(self) -> str:
        """Where they begin."""
        return f"/?model=docs-small&release=docs-small-res&sae={self.sae}&latent={self.latents[0]}"


@dataclass(frozen=True)
class Step:
    """Something that a reader does, and what stands there afterwards."""

    kind: str
    """`latent` (another one on the home page), `type`, `dashboard`, `lens` (another part of that
    page), `back` (to the dashboard), or `home`."""
    latent: int
    """The latent that is shown then."""
    text: str
    """The text that is shown then on the home page."""

    @property
    def shows(self) -> str:
        """What stands there afterwards, whichever way led to it: two that are equal show the
        same numbers."""
        if self.kind in ("dashboard", "back"):
            return f"dashboard {self.latent}"
        if self.kind == "lens":
            return f"lens {self.latent}"
        return f"home {self.latent} {self.text}"

    @property
    def cached(self) -> bool:
        """Whether nothing has to be computed for it."""
        return self.kind != "type"


def steps_of(reader: Reader, number: int) -> list[Step]:
    """One round of what a reader does; it begins and ends on the home page."""
    latent = reader.latents[number % len(reader.latents)]
    text = reader.texts[number % len(reader.texts)]
    kinds = ("type", "dashboard", "lens", "back", "home")
    steps = [Step(kind, latent, text) for kind in kinds]
    if number:
        steps.insert(0, Step("latent", latent, reader.texts[(number - 1) % len(reader.texts)]))
    return steps


@dataclass(frozen=True)
class Seen:
    """What a step showed."""

    seconds: float
    """From the click or key to the last change of the page."""
    numbers: tuple[str, ...]
    """All numbers in the middle of the page, in order."""


async def open_home(page: "Page", address: str, reader: Reader) -> None:
    """The reader's first page, drawn to its end."""
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(address + reader.link)
    await page.evaluate(_WATCH)
    latent = reader.latents[0]
    await _settled(page, [f"Where latent {latent} is active", "Activation of every token"])


async def take(page: "Page", step: Step) -> Seen:
    """Do what the step says, and wait until the page is still."""
    await page.evaluate("window.began = performance.now()")
    main = page.get_by_test_id("stMain")
    side = page.get_by_test_id("stSidebar")
    if step.kind == "latent":
        number = side.get_by_role("spinbutton", name=re.compile("^Latent"))
        await number.fill(str(step.latent))
        await number.press("Enter")
        wanted = [f"Where latent {step.latent} is active", step.text]
    elif step.kind == "type":
        box = main.get_by_role("textbox", name="Your text")
        await box.fill(step.text)
        await box.press("Control+Enter")
        wanted = [f"Where latent {step.latent} is active", step.text]
    elif step.kind == "dashboard":
        await side.get_by_role("link", name="Latent", exact=True).click()
        wanted = [f"Latent {step.latent}", *_DASHBOARD]
    elif step.kind == "back":
        await main.get_by_role("radio", name="Dashboard").click()
        wanted = [f"Latent {step.latent}", *_DASHBOARD]
    elif step.kind == "lens":
        await main.get_by_role("radio", name="Logit lens").click()
        wanted = [f"Latent {step.latent}", "Excess kurtosis", "Standard deviation"]
    else:
        await side.get_by_role("link", name="Home", exact=True).click()
        wanted = [f"Where latent {step.latent} is active", step.text]
    last = await _settled(page, wanted)
    began = await page.evaluate("window.began")
    return Seen(max(0.0, last - began) / 1000, await numbers_of(page))


async def numbers_of(page: "Page") -> tuple[str, ...]:
    """The numbers that stand in the middle of the page."""
    return tuple(_NUMBER.findall(await page.evaluate(_SHOWN)))


async def _settled(page: "Page", wanted: list[str]) -> float:
    """When the page last changed, once its script has ended and it shows what is wanted."""
    from playwright.async_api import TimeoutError as PlaywrightTimeoutError

    try:
        done = await page.wait_for_function(_SETTLED, arg=[wanted, _CALM_MS], polling=100)
    except PlaywrightTimeoutError as late:
        shown = await page.get_by_test_id("stMain").inner_text()
        raise PlaywrightTimeoutError(f"{wanted} did not come; there is: {shown[:500]}") from late
    found: float = await done.json_value()
    return found
