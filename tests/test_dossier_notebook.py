"""The notebook of a dossier is run where its results are not, and gives the numbers of the JSON."""

import json
from pathlib import Path

import pytest

import core.corpus
import core.corpus.docs
from core.dossier import __main__ as shell
from core.settings import Settings
from tests.demo_bundle import write_demo
from tests.dossier_tiny import corpus, little_text

pytestmark = pytest.mark.slow

HOOK = "blocks.1.hook_resid_pre"


def test_the_notebook_makes_every_number_again(tmp_path: Path, monkeypatch, capsys) -> None:
    little_text(monkeypatch)
    for module in (core.corpus, core.corpus.docs):  # the real one takes seconds to be found
        monkeypatch.setattr(module, "docs_sample", lambda: corpus(1))
    demo = write_demo(tmp_path / "demo")

    def lives_in(name: str) -> None:
        settings = Settings(cache_dir=tmp_path / name, demo_dir=demo, device="cpu")
        monkeypatch.setattr(Settings, "from_environment", lambda: settings)

    book, data = tmp_path / "dossier.ipynb", tmp_path / "dossier.json"
    wanted = ["--release", "docs-small-res", "--sae", HOOK, "--latent", "3", "--tokens", "3000"]
    files = ["--notebook", str(book), "--json", str(data)]
    lives_in("one")
    tried = ["--kind", "explanation", "--hypothesis", 'the word "river"']
    assert shell.main([*wanted, "--parts", "reads", "belongs", *files, *tried]) == 0
    trial, conclusion = capsys.readouterr().out.strip().split("\n")
    assert trial.startswith('“the word "river"”: precision ')
    lives_in("another")
    names: dict = {}
    for cell in json.loads(book.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], "a cell", "exec"), names)
    assert capsys.readouterr().out.strip() == conclusion
    whole = json.loads(data.read_text())
    assert whole["conclusion"]["sentence"] == conclusion
    assert [it["hypothesis"] for it in whole["trials"]] == ['the word "river"']
    written = {
        (part, it["name"]): it["value"]
        for part, section in whole["sections"].items()
        for it in section["measures"]
    }
    table = names["table"].to_dict("records")
    assert [(it["section"], it["number"]) for it in table] == list(written)
    assert len(table) >= 6
    for row in table:
        value = written[row["section"], row["number"]]
        value = float("nan") if value is None else value
        assert row["now"] == pytest.approx(value, rel=1e-9, nan_ok=True), row
        assert row["written"] == pytest.approx(value, abs=1e-6, nan_ok=True), row
