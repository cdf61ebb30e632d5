"""The HTML of a dossier opened from a file in Chromium, without a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.dossier.beside import Beside
from core.dossier.conclude import conclude
from core.dossier.export_html import dossier_html
from core.dossier.notes import note_of
from core.dossier.readers import Told
from tests.browsing import MARKS
from tests.dossier_planted import dossier, reads, row, said, says, trial

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = [pytest.mark.slow, *MARKS]

EVIL = "<script>document.title='run'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"


def evil_dossier():
    """One whose texts are markup, with a map and with what readers tried and had told."""
    rng = np.random.default_rng(0)
    n = 200
    places = pd.DataFrame({"sae_id": ["s"] * n, "width": n, "latent": range(n), "cluster": 0})
    places = places.assign(x=rng.normal(size=n), y=rng.normal(size=n), label=EVIL)
    about = dossier(
        reads=reads(top=(row(EVIL, " cat"),)),
        says=says(said(text=EVIL)),
    )
    return replace(about, beside=Beside(map=places), belongs=None)


def test_the_page_opens_offline_without_an_error(browser, tmp_path: Path) -> None:
    found = evil_dossier()
    file = tmp_path / "dossier.html"
    file.write_text(
        dossier_html(
            found,
            conclude(found),
            [note_of(hypothesis=EVIL)],
            trials=[trial(hypothesis=EVIL)],
            told=Told(EVIL, "a model", "2026-01-02", ("7",)),
        ),
        encoding="utf-8",
    )
    for colours in ("light", "dark"):
        context = browser.new_context(offline=True, color_scheme=colours)
        page, said_aloud, asked = context.new_page(), [], []
        page.on("console", lambda message, told=said_aloud: told.append(message.text))
        page.on("pageerror", lambda error, told=said_aloud: told.append(str(error)))
        page.on("request", lambda request, told=asked: told.append(request.url))
        page.goto(file.as_uri())
        assert page.title().startswith("Latent 3 of r / s")
        headings = page.locator("h2").all_inner_texts()
        assert headings[0] == "In one breath"
        assert headings[-3:] == ["Hypotheses tried", "Told by a chat model", "Notes"]
        picture = page.locator("img")
        assert picture.count() == 1
        assert picture.evaluate("it => it.naturalWidth") > 500
        assert "latent" in picture.get_attribute("alt")
        assert page.locator("script").count() == 0
        assert page.get_by_text("document.title='run'").count() > 3, "markup is shown as it is"
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "nothing is beyond the edge"
        assert said_aloud == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        context.close()
