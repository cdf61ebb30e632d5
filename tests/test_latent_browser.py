"""The latent page in headless Chromium: any text displays harmlessly, and texts from elsewhere."""

import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.browsing import MARKS, demo_server, settled
from tests.builders import make_sae, write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.hub_contents import RES_JB, RES_JB_REPO, fill, sae_files
from tests.loopback import serving
from tests.loopback_hub import LoopbackHub, loopback_hub

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = MARKS
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NASTY = (
    '<img src="http://198.51.100.1/x.png" onerror="window.harmed = 1"> </span></div>'
    "<script>window.harmed = 2</script> ![p](http://198.51.100.1/y.png) $x$ `c` "
    "🙂 👩‍👩‍👧 שלום עולם مرحبا \u202egnihton\u202c tab\there \x07\x1b[31m bell &amp; &lt;b&gt;"
)
"""HTML, Markdown, emoji, right-to-left text and control characters."""
HARMLESS = """() => {
  const shown = [...document.querySelectorAll("[data-testid=stMain] .lx-row")]
  return { harmed: window.harmed ?? null, rows: shown.length,
           inside: shown.flatMap((it) => [...it.querySelectorAll("img, script, b, a")]).length,
           images: [...document.images].filter((it) => it.src.includes("198.51")).length }
}"""
DATASET = "Skylion007/openwebtext"


class _PublicPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"<h1>Public page {self.path}</h1>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A hub with a tiny GPT-2, all SAEs of a release of it, and the dataset they name."""
    with loopback_hub() as served:
        fill(served, tmp_path_factory.mktemp("hub"))
        for layer, name in ((3, "blocks.3.hook_resid_pre"), (11, "blocks.11.hook_resid_post")):
            served.repos[RES_JB_REPO] |= sae_files(name, hook_point=name, layer=layer, seed=layer)
        rows = io.BytesIO()
        pq.write_table(pa.table({"text": [f"text {i} of the hub. " * 9 for i in range(40)]}), rows)
        served.repos[f"datasets/{DATASET}"] = {
            "README.md": b"# Some text\n",
            "data/train-00000-of-00001.parquet": rows.getvalue(),
        }
        yield served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: LoopbackHub) -> Iterator[str]:
    """Address of a server on the tiny bundle, SAEs of other kinds, the hub and public pages."""
    folder = tmp_path_factory.mktemp("latent-browser")
    for kind in ("jumprelu", "topk"):
        hook = "blocks.2.hook_resid_pre"
        sae = make_sae(kind, d_in=D_MODEL, d_sae=48, hook_name=hook, model_name="docs-small")
        if kind == "jumprelu":
            sae.b_enc.data[3] = -1e6  # never active
            sae.b_enc.data[4] = 1e3  # always active
        write_sae(sae, folder / "mine" / kind)
    demo = write_demo(folder / "demo")
    with serving(_PublicPage) as public:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "0",
            "NEURONPEDIA_URL": public,
            "SAE_EXPLORER_SAES": str(folder / "mine"),
        }
        with demo_server(demo, folder, **environment) as address:
            yield address


def link(server: str, release: str, sae: str, latent: int, **rest: str) -> str:
    """The latent page of one latent."""
    chosen = {"model": "docs-small", "release": release, "sae": sae, "latent": str(latent)}
    return f"{server}/latent?{urlencode({'tokens': '3000', **chosen, **rest})}"


def is_harmless(page: "playwright.Page") -> None:
    """Rows of tokens are there and hold nothing but text, and nothing of them has run."""
    found = page.evaluate(HARMLESS)
    assert found["rows"] > 0
    assert {name: found[name] for name in ("harmed", "inside", "images")} == {
        "harmed": None,
        "inside": 0,
        "images": 0,
    }
    assert page.get_by_test_id("stException").count() == 0


@pytest.mark.parametrize(
    ("release", "sae", "latent"),
    [
        ("docs-small-res", "blocks.1.hook_resid_pre", 7),
        ("docs-small-hook-z", "blocks.1.hook_z", 5),
        ("mine", "topk", 5),
        ("mine", "jumprelu", 3),
        ("mine", "jumprelu", 4),
    ],
)
def test_live_box_takes_any_text_on_every_kind_of_sae(
    server: str, page: "playwright.Page", release: str, sae: str, latent: int
) -> None:
    page.goto(link(server, release, sae, latent))
    says = {3: "This latent was never active", 4: "This latent is active at most tokens"}
    if release == "mine" and latent in says:
        page.get_by_text(says[latent]).wait_for()
    box = page.get_by_role("textbox", name="Your text")
    box.fill("short <b>text</b>")
    box.press("Control+Enter")
    live = page.get_by_test_id("stHtml").filter(has_text="short").first
    live.wait_for()
    assert "<b>text</b>" in plain(live.inner_text())
    assert page.get_by_text("tokens are left out").count() == 0
    box.fill(NASTY)  # more tokens than the tiny model takes
    box.press("Control+Enter")
    page.get_by_text("tokens are left out").wait_for()
    page.get_by_test_id("stHtml").filter(has_text="onerror").first.wait_for()
    is_harmless(page)
    box.fill("")
    box.press("Control+Enter")
    page.get_by_text("Type a few words").wait_for()
    is_empty = latent == 3
    strongest = page.get_by_text("Strongest examples", exact=True)
    playwright.expect(strongest).to_have_count(0 if is_empty else 1)


def plain(text: str) -> str:
    """Without the invisible characters that allow lines to break."""
    return text.replace("\u2060", "").replace("\u200b", "").replace("\u00a0", " ")


def upload_of(kind: str) -> tuple[str, bytes]:
    """A file with hostile text in each of its documents."""
    documents = [f"{NASTY} number {number}" for number in range(30)]
    if kind == "txt":
        return "nasty.txt", "\n\n".join(documents).encode()
    if kind == "jsonl":
        lines = [json.dumps({"id": "<b>1</b>", "text": it}) for it in documents]
        return "<b>nasty.jsonl", "\n".join(lines).encode()
    table = io.BytesIO()
    pq.write_table(pa.table({"title": ["a"] * 30, "said": documents}), table)
    return "nasty.parquet", table.getvalue()


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_a_file_of_the_user_is_read_and_displays_harmlessly(
    server: str, page: "playwright.Page", kind: str
) -> None:
    page.goto(link(server, "docs-small-res", "blocks.1.hook_resid_pre", 7))
    page.get_by_text("Strongest examples", exact=True).wait_for()
    settled(page)
    page.get_by_role("button", name="Read another text").click()
    page.get_by_text("A file of mine").click()
    name, data = upload_of(kind)
    with page.expect_response(lambda response: "upload_file" in response.url):
        page.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        )
    page.get_by_text(name, exact=False).first.wait_for()
    settled(page)
    if kind == "parquet":
        # Two columns of text: which one is asked in words, and named then.
        page.get_by_role("button", name="Read this text").click()
        page.get_by_text("several text columns: choose one of title, said").wait_for()
        column = page.get_by_role("textbox", name="Column with the text")
        column.fill("said")
        column.press("Enter")
        settled(page)
    page.get_by_role("button", name="Read this text").click()
    page.get_by_text("Examples come from: ").filter(has_text=f".{kind}").wait_for()
    page.get_by_test_id("stHtml").filter(has_text="onerror").first.wait_for()
    is_harmless(page)
    page.wait_for_url("**corpus=file**")


def test_published_sae_is_read_on_its_own_dataset_and_shown_publicly(
    server: str, hub: LoopbackHub, page: "playwright.Page"
) -> None:
    address = {"model": "gpt2-small", "release": RES_JB[0], "sae": RES_JB[1], "latent": "7"}
    page.goto(f"{server}/latent?{urlencode({**address, 'tokens': '3000'})}")
    page.get_by_role("button", name="Download and load").click()
    page.get_by_text("No text was read with this SAE yet").wait_for()
    settled(page)
    page.get_by_text("Hugging Face dataset").click()
    dataset = page.get_by_role("textbox", name="Name of the dataset")
    dataset.wait_for()
    playwright.expect(dataset).to_have_value(DATASET)
    # With all SAEs of the release: sizes are asked for, and nothing is fetched before a click.
    hub.take_requests()
    page.get_by_text("SAEs of this release at once").click()
    settled(page)
    read = page.get_by_role("button", name="Read this text")
    read.click()
    page.get_by_role("button", name="Download and read").wait_for()
    page.get_by_text("weights that are not on this machine yet").wait_for()
    page.get_by_text("With all of them in memory at once").wait_for()
    asked = hub.take_requests()
    assert any("blocks.5.hook_resid_pre" in it for it in asked)
    assert [it for it in asked if it.startswith("GET") and "/resolve/" in it] == []
    page.get_by_role("button", name="Not now").click()
    page.get_by_text("No text was read with this SAE yet").wait_for()
    # With this one, a click is enough; only the dataset is asked for.
    page.goto(f"{server}/latent?{urlencode({**address, 'tokens': '3000'})}")
    page.get_by_text("Hugging Face dataset").click()
    settled(page)
    read.click()
    page.get_by_text(f"Examples come from: {DATASET}").wait_for()
    fetched = [it for it in hub.take_requests() if it.startswith("GET") and "/resolve/" in it]
    assert fetched
    assert all(f"/datasets/{DATASET}/" in it for it in fetched)
    page.get_by_text("Show Neuronpedia's page here").click()
    public = page.frame_locator("iframe").get_by_text("Public page")
    playwright.expect(public).to_have_text("Public page /gpt2-small/1-res-jb/7?embed=true")
