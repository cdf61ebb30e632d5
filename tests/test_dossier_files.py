"""What is taken away of a dossier: HTML that does nothing, JSON, Markdown, notebook, notes."""

import ast
import json
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from core.autointerp.record import list_run, save_record
from core.descriptions.saved import save_user_descriptions
from core.descriptions.table import Descriptions
from core.dossier.cite import citation, file_name, title_of
from core.dossier.conclude import conclude
from core.dossier.export_html import dossier_html
from core.dossier.export_text import SCHEMA, dossier_json, dossier_markdown
from core.dossier.kept_steering import KeptSteering
from core.dossier.notebook import dossier_notebook
from core.dossier.notes import load_notes, note_of, save_note
from core.dossier.others import others_of
from core.dossier.prose import evidence_of, stored_prose, tell
from core.latent.examples import ExampleRow
from core.llm import Budget, ChatEndpoint, ChatSession
from core.store import Store
from tests.dossier_planted import dossier, reads, said, says, spoken
from tests.loopback_openai import GOOD_KEY, loopback_openai

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' | [a](http://e.vil) \u202e"
)


class _Reader(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def evil():
    row = ExampleRow((EVIL, " cat"), (0.5, 2.0), peak=1, value="2", source=EVIL)
    own = spoken(definition=EVIL)
    steered = {"kind": "latent", "strength": 2.0, "kl": None, "text": EVIL}
    return dossier(
        reads=reads(top=(row,)),
        says=says(said(text=EVIL), said("model", text=EVIL), own=own),
        kept=KeptSteering("2026-11-28T12:00:00+00:00", EVIL, EVIL, EVIL, EVIL, (steered,)),
    )


def test_the_page_runs_nothing_and_asks_for_nothing(evil) -> None:
    note = note_of(hypothesis=EVIL, tags=[EVIL[:30]], verdict="it holds")
    text = dossier_html(evil, conclude(evil), [note])
    page = _Reader(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "form", "a", "video", "svg"}
    for tag, attributes in page.tags:
        assert not [it for it in attributes if it.startswith("on")], (tag, attributes)
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name) in (None, "data:,"), (tag, attributes)
    [policy] = [it["content"] for tag, it in page.tags if "Content-Security-Policy" in it.values()]
    assert "default-src 'none'" in policy
    shown = "".join(page.texts)
    assert "<script>alert(1)</script>" in shown, "markup is shown as it is"
    assert "\u202e" not in text
    for part in ("Reads", "Writes", "Says", "Hides", "Works", "Doubts", "Notes", "by a reader"):
        assert part in shown
    assert "Not computed yet." in shown, "the planted dossier has no kin"


def test_the_json_has_its_schema_and_every_number(evil) -> None:
    end = conclude(evil)
    whole = json.loads(dossier_json(evil, end, [note_of(hypothesis="x")]))
    assert whole["schema"] == SCHEMA
    assert whole["kind"] == "sae-latent-dossier"
    assert whole["conclusion"]["sentence"] == end.sentence
    assert [it["stand"] for it in whole["conclusion"]["lines"]] == [it.stand for it in end.lines]
    assert set(whole["sections"]) == {"reads", "writes", "says", "hides", "works"}
    rate = whole["sections"]["reads"]["measures"][0]
    assert (rate["name"], rate["value"], rate["n"]) == ("rate", 0.04, 10_000)
    assert whole["sections"]["says"]["said"][0]["text"] == EVIL
    assert whole["sections"]["reads"]["tokens"] == [{"id": 1, "token": "cat", "examples": 19}]
    assert whole["notes"][0]["hypothesis"] == "x"
    assert whole["kept"]["rows"] == [{"kind": "latent", "strength": 2.0, "kl": None, "text": EVIL}]
    gain = whole["sections"]["writes"]["measures"][4]
    assert gain["directions"] == [0.0, 0.01]


def test_markdown_keeps_its_tables(evil) -> None:
    text = dossier_markdown(evil, conclude(evil))
    assert "\\<script\\>" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(tables) > 40
    heads = [n for n, line in enumerate(text.splitlines()) if line.startswith("|---")]
    lines = text.splitlines()
    for n in heads:
        width = lines[n].count("|")
        for line in lines[n + 1 :]:
            if not line.startswith("| "):
                break
            assert line.replace("\\|", "").count("|") == width, line


def test_the_notebook_is_python_and_names_everything(evil) -> None:
    book = json.loads(dossier_notebook(evil, conclude(evil)))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    code = [it["source"] for it in book["cells"] if it["cell_type"] == "code"]
    for cell in code:
        ast.parse(cell)
    whole = "\n".join(code)
    assert "latent=3" in whole
    made = "('reads', 'writes', 'says', 'hides', 'works')"
    assert f"run_dossier(engine.lease, store, request, parts={made})" in whole
    assert evil.request.corpus.digest in whole, "a pasted text is told by its digest"
    assert "('reads', 'rate', 0.04)" in whole


def test_titles_and_citations(evil) -> None:
    line = citation(evil)
    assert "\n" not in line
    assert "latent 3" in line
    assert evil.request.corpus.digest[:12] in line
    assert file_name(evil) == "dossier-r-s-3"
    assert title_of(evil, conclude(evil)).startswith("Latent 3 of r / s: ")


def test_notes_keep_every_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = note_of(
        hypothesis=" cats ", tags=["animal", "animal", " "], now=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert (first.hypothesis, first.tags, first.when) == (
        "cats",
        ("animal",),
        "2026-01-02T00:00:00+00:00",
    )
    save_note(store, "f" * 64, 3, first)
    second = note_of(hypothesis="dogs", verdict="it does not hold", confidence=80, who="Ann")
    assert save_note(store, "f" * 64, 3, second) == [second, first]
    assert load_notes(Store(tmp_path), "f" * 64, 3) == [second, first]
    assert load_notes(store, "f" * 64, 4) == []
    assert load_notes(store, "e" * 64, 3) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hypothesis": " "}, "empty"),
        ({"hypothesis": "x" * 5000}, "5,000 characters"),
        ({"hypothesis": "x", "verdict": "maybe"}, "'maybe'"),
        ({"hypothesis": "x", "confidence": 101}, "101"),
        ({"hypothesis": "x", "tags": ["t" * 50]}, "tags"),
        ({"hypothesis": "x", "who": "n" * 301}, "301 characters"),
    ],
)
def test_notes_that_cannot_be_kept_say_why(changed: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        note_of(**changed)


def test_what_others_say_is_read_once_for_all_latents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chats = [("old", "m1", {"0": "oldest", "1": "one"}), ("a", "m1", {"0": "newer", "2": ""})]
    chats += [(name, name, {"0": f"by {name}"}) for name in ("m2", "m3")]
    for run, model, texts in chats:
        results = {latent: {"explanation": text} for latent, text in texts.items()}
        record = {"id": run, "title": run, "fingerprint": "sae", "service": "", "results": results}
        record |= {"settings": {"explainer": "chat"}, "chat_model": model}
        save_record(store, record)
        list_run(store, record)
    offline = {**record, "id": "words", "settings": {"explainer": "words"}, "chat_model": "words"}
    save_record(store, offline)
    list_run(store, offline)
    list_run(store, {**record, "id": "gone"})
    save_user_descriptions(store, "sae", Descriptions.from_texts(["", "mine", ""], source="yours"))
    published = Descriptions.from_texts(["listed", "", ""], source="neuronpedia")
    others = others_of(store, "sae", d_sae=3, published=published)
    assert others.of(0) == (
        ("neuronpedia", "listed"),
        ("chat model m3", "by m3"),
        ("chat model m2", "by m2"),
        ("chat model m1", "newer"),
    )
    assert others.of(1) == (("yours", "mine"), ("chat model m1", "one"))
    assert others.of(2) == others.of(7) == ()
    # A width that is not known, or wrong, loses nothing.
    assert others_of(store, "sae", d_sae=None).of(1) == others.of(1)
    assert others_of(store, "sae", d_sae=1).of(1) == others.of(1)
    assert others_of(store, "another", d_sae=3).of(0) == ()


def test_a_chat_model_is_given_the_page_alone_and_its_numbers_are_checked(
    evil, tmp_path: Path
) -> None:
    store, end = Store(tmp_path), conclude(evil)
    assert stored_prose(store, evil, end) is None
    evidence = evidence_of(evil, end)
    with loopback_openai() as service:
        service.reply = lambda body: (
            "It fires at 400 positions.\n\nOf these 12345 hold <b>cats</b>."
        )
        endpoint = ChatEndpoint("teller", service.url, GOOD_KEY)
        told = tell(store, ChatSession(endpoint, store=store), evil, end)
        (question,) = service.questions()
        sent = question["messages"][-1]["content"]
        assert sent == f"<evidence>\n{evidence}\n</evidence>"
        assert end.sentence.split("“")[0] in sent
        spent = ChatSession(endpoint, store=Store(tmp_path / "other"), budget=Budget(calls=0))
        with pytest.raises(ValueError, match="budget of 0 calls"):
            tell(store, spent, evil, end)
    assert told.foreign == ("12345",), "400 stands in the evidence"
    assert stored_prose(store, evil, end) == told
    assert "numbers that are not in the evidence: 12345" in told.mark.lower()
    page = _Reader(dossier_html(evil, end, told=told))
    shown = "".join(page.texts)
    assert "Written by teller" in shown
    assert "<b>cats</b>" in shown
    other = replace(evil, reads=None)
    assert stored_prose(store, other, conclude(other)) is None, "of this evidence alone"
