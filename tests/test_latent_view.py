"""Examples as HTML, texts by name, links, tables and lists of the latent page."""

import json
import threading
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.latent.all_latents import density_histogram, latent_table
from core.latent.examples import ExampleRow, rows_html
from core.latent.lists import (
    MAX_NOTE,
    Noted,
    export_list,
    list_names,
    put_on_list,
    read_list,
    read_list_file,
    remove_list,
    take_off_list,
)
from core.latent.view import LINK, LatentPageView
from core.store import Store
from core.tokens import join_row
from core.view.contrast import token_css
from core.view.corpora import (
    CorpusChoice,
    corpus_of,
    keep_file,
    keep_text,
    parse_corpus,
    title_of,
)
from tests.builders import train_tiny_tokenizer

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</span></div><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;&#60;",
    "\x00\x07\x1b[31m\x7f\x85",
    "\u202eright to left\u2066\u2069\u200f",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈",
    "Z\u0351\u0343\u0327\u0321a",
    "\ud83d",
    "\ufffd\ufeff\u2028\u2029",
    "a\r\n\tb ",
    "`$x$` :smile: **b** [l](javascript:alert(1))",
)


class Strict(HTMLParser):
    """Notes the text and every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.text = ""
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]
        self.depth += tag != "br"

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1
        assert self.depth >= 0

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def parsed(markup: str) -> Strict:
    parser = Strict()
    parser.feed(markup)
    parser.close()
    assert parser.depth == 0
    return parser


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("break_lines", [True, False])
def test_no_text_becomes_markup(text: str, break_lines: bool) -> None:
    tokens = [text, *text, ""]
    row = ExampleRow(tokens, [1.0] * len(tokens), peak=0, value=text, source=text)
    markup = rows_html([row, row], strongest=1.0, break_lines=break_lines)
    markup.encode()  # no halves of characters
    found = parsed(markup)
    plain = parsed(
        rows_html(
            [ExampleRow(["a"] * len(tokens), row.activations, peak=0, value="a", source="a")] * 2,
            strongest=1.0,
        )
    )
    without_breaks = [it for it in found.tags if it[0] != "br"]
    assert without_breaks == plain.tags
    assert {name for _, names in found.tags for name in names} <= {
        "class",
        "style",
        "data-v",
        "title",
        "dir",
    }
    assert all(
        unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in found.text
    )


def test_any_characters_are_shown_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    marks = list("<>&\"'`=/\\-!") * 50
    pool = np.array([chr(it) for it in generator.integers(0, 0x110000, 4000)] + marks, object)
    for _ in range(40):
        tokens = ["".join(generator.choice(pool, 5)) for _ in range(20)]
        found = parsed(rows_html([ExampleRow(tokens, [0.0] * 20)], strongest=0.0))
        assert [tag for tag, _ in found.tags] == ["div", "div"] + ["span"] * 20
    shown = parsed(rows_html([ExampleRow([" a", "<b>", "\n"], [0, 1, 2])], strongest=2))
    assert shown.text == " a<b>↵"


def test_shades_follow_activations_and_unknown_ones_have_none() -> None:
    row = ExampleRow(list("abcd"), [0.0, 1.0, 4.0, float("nan")], peak=2)
    found = parsed(rows_html([row], strongest=4.0))
    assert [it for it in found.values if it.startswith("background")] == [
        token_css(0.25),
        token_css(1.0),
    ]
    assert {"0", "1", "4", "not read"} <= set(found.values)
    assert "lx-t lx-at" in found.values


@pytest.mark.parametrize("text", ["שלום, مرحبا 🙂 a", "👩‍👩‍👧 x🏳️‍🌈", "Z\u0351\u0343a", "plain", ""])
def test_characters_of_several_tokens_are_whole_again(text: str) -> None:
    tokenizer = train_tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    values = [float(it) for it in range(len(ids))]
    found = join_row(tokenizer, ids, values, peak=len(ids) - 1 if ids else None)
    assert "".join(found.texts) == text
    assert sum(found.n_tokens) == len(ids)
    ends = np.cumsum(found.n_tokens)
    assert found.activations == [float(end - 1) for end in ends]
    assert found.peak == (len(found.texts) - 1 if ids else None)
    # Cut within a character, nothing is lost and nothing invented.
    cut = join_row(tokenizer, ids[1:], values[1:])
    assert sum(cut.n_tokens) == max(0, len(ids) - 1)
    assert "\ufffd" not in "".join(cut.texts)


def test_texts_have_names_that_links_can_carry(tmp_path: Path) -> None:
    kept = keep_file(tmp_path, b'{"text": "a b c", "other": "d"}\n', "../../My notes!.JSONL")
    pasted = keep_text(tmp_path, "some words")
    hub = CorpusChoice("hub", "owner/data.set-1", "body")
    part = CorpusChoice("hub", "owner/data@en-US", "body")
    other = CorpusChoice("file", kept.name, "other")
    for choice in (CorpusChoice(), kept, pasted, hub, part, other):
        assert parse_corpus(choice.text) == choice
    assert {it.parent for it in tmp_path.rglob("*")} == {tmp_path}
    assert title_of(kept) == "My_notes_.jsonl"
    assert [it.text for it in corpus_of(kept, tmp_path).documents()] == ["a b c"]
    assert corpus_of(part, tmp_path).name == "owner/data, en-US"
    by_column = corpus_of(parse_corpus(f"{kept.text}:other"), tmp_path)
    assert [it.text for it in by_column.documents()] == ["d"]
    assert [it.text for it in corpus_of(pasted, tmp_path).documents()] == ["some words"]
    again = keep_file(tmp_path, b'{"text": "a b c", "other": "d"}\n', "../../My notes!.JSONL")
    assert again == kept
    assert corpus_of(again, tmp_path).digest == corpus_of(kept, tmp_path).digest
    with pytest.raises(ValueError, match="not on this server"):
        corpus_of(kept, tmp_path / "elsewhere")
    for bad in (b"", b" \n"):
        with pytest.raises(ValueError, match="empty"):
            keep_file(tmp_path, bad, "a.txt")
    with pytest.raises(ValueError, match="empty"):
        keep_text(tmp_path, " \n\u200b")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "file:../../etc/passwd",
        "file:/etc/passwd",
        "text:..",
        "hub:",
        "hub:a/b/c",
        "hub:a/b@",
        "hub:a/b@c/d",
        "hub:../x",
        "docs:x",
        "web:http://a",
        "file:0123456789abcdef0123-a.txt/../b",
        "hub:a b/c",
        "hub:a/b:\x00",
    ],
)
def test_other_names_of_texts_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="names no text"):
        parse_corpus(bad)


def test_links_carry_the_view() -> None:
    view = LatentPageView(
        tab="browse",
        corpus="hub:a/b",
        tokens=5000,
        include_bos=True,
        around=25,
        text="two\nlines & <b>",
        order="rare",
        kind="alive",
        density=(-4.5, -2.0),
        words="array",
        chosen_list="Mine",
    )
    assert LINK.parse(LINK.to_parameters(view)) == (view, ())
    assert LINK.to_parameters(LatentPageView()) == {}
    bad = {
        "tab": "x",
        "corpus": "file:../a",
        "tokens": "-1",
        "bos": "2",
        "around": "11",
        "order": "x",
        "kind": "x",
        "density": "0,-1",
        "words": "a" * 201,
        "list": "b" * 81,
        "live": "c" * 2001,
    }
    parsed_view, problems = LINK.parse(bad)
    assert parsed_view == LatentPageView()
    assert len(problems) == len(bad)


@pytest.fixture
def summary() -> pd.DataFrame:
    generator = np.random.default_rng(3)
    count = generator.integers(0, 900, 200)
    count[[5, 9]] = 0
    alive = count > 0
    frequency = count / 1000
    with np.errstate(divide="ignore"):
        logs = np.where(alive, np.log10(frequency), np.nan)
    values = generator.random((3, 200))
    return pd.DataFrame(
        {
            "latent": np.arange(200),
            "count": count,
            "frequency": frequency,
            "log10_frequency": logs,
            "mean": np.where(alive, values[0], np.nan),
            "std": values[1],
            "max": np.where(alive, 1 + values[1], 0),
            "skew": np.where(alive, values[2], np.nan),
        }
    )


@pytest.mark.parametrize(
    ("order", "column", "sign"),
    [
        ("frequent", "count", -1),
        ("rare", "count", 1),
        ("strong", "max", -1),
        ("skewed", "skew", -1),
    ],
)
def test_orders_put_the_dead_last(
    summary: pd.DataFrame, order: str, column: str, sign: int
) -> None:
    table = latent_table(summary, order=order)
    alive = [it for it in range(200) if summary["count"][it] > 0]
    expected = sorted(alive, key=lambda it: (sign * summary[column][it], it))
    dead = [it for it in range(200) if it not in alive]
    assert table["latent"].tolist() == expected + dead


def test_filters_leave_what_was_asked_for(summary: pd.DataFrame) -> None:
    texts = np.array([f"fires on {'Arrays' if it % 3 else 'numbers'}" for it in range(200)], object)
    table = latent_table(
        summary, texts=texts, kind="alive", density=(-2.0, -0.5), words="array", order="latent"
    )
    expected = [
        it
        for it in range(200)
        if it % 3 and summary["count"][it] and 0.01 <= summary["count"][it] / 1000 <= 10**-0.5
    ]
    assert table["latent"].tolist() == expected
    dead = latent_table(summary, kind="dead")
    assert (dead["density"] == 0).all()
    assert dead["max"].isna().all()
    skew = np.arange(200.0)
    skew[50] = np.nan
    by_lens = latent_table(summary, logit_skew=skew, order="lens", kind="alive")["latent"].tolist()
    assert by_lens[0] == 199
    assert by_lens[-1] == 50
    for options in ({"order": "x"}, {"kind": "x"}, {"density": (0.0, -1.0)}, {"density": (1.0,)}):
        with pytest.raises(ValueError, match=r"choose|density"):
            latent_table(summary, **options)


def test_density_histogram_counts_every_latent_once(summary: pd.DataFrame) -> None:
    found = density_histogram(summary)
    dead = int((summary["count"] == 0).sum())
    assert found.n_dead == dead
    assert found.counts.sum() == 200 - dead
    shown = latent_table(summary, density=(float(found.edges[3]), float(found.edges[8])))
    assert len(shown) >= found.counts[3:8].sum()
    nobody = density_histogram(summary.assign(log10_frequency=np.nan))
    assert len(nobody.counts) == 0
    assert nobody.n_dead == 200
    same = density_histogram(summary.assign(log10_frequency=-2.0))
    assert same.counts.sum() == 200


def noted(latent: int, note: str = "") -> Noted:
    return Noted("docs-small", "docs-small-res", "blocks.1.hook_resid_pre", latent, note)


def test_lists_keep_latents_with_their_latest_note(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert list_names(store) == []
    assert put_on_list(store, "  Mine  own ", [noted(1, "a"), noted(2)]) == 2
    assert put_on_list(store, "Mine own", [noted(1, "b"), noted(3)]) == 3
    assert read_list(store, "Mine own") == [noted(1, "b"), noted(2), noted(3)]
    take_off_list(store, "Mine own", [noted(2), noted(9)])
    assert [it.latent for it in read_list(store, "Mine own")] == [1, 3]
    put_on_list(store, "alone", [noted(5)])
    assert list_names(Store(tmp_path)) == ["alone", "Mine own"]
    remove_list(store, "Mine own")
    assert list_names(store) == ["alone"]
    assert read_list(store, "Mine own") == []
    store.clear_recomputable()
    assert read_list(store, "alone") == [noted(5)]
    for name in ("", "  ", "x" * 81, "a\x00b"):
        with pytest.raises(ValueError, match="needs a name"):
            put_on_list(store, name, [noted(1)])


def test_two_users_at_once_both_find_their_latents(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def add(start: int) -> None:
        for latent in range(start, start + 10):
            put_on_list(store, "shared", [noted(latent)])

    threads = [threading.Thread(target=add, args=(start,)) for start in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(it.latent for it in read_list(store, "shared")) == list(range(30))


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_lists_come_back_from_their_files(file_format: str) -> None:
    items = [noted(0, 'a "quoted", note\nof two lines'), noted(7, "שלום 🙂 <b>"), noted(8)]
    data = export_list(items, file_format)
    assert read_list_file(data, f"list.{file_format}") == items


def test_unusable_files_cost_a_sentence_with_the_row() -> None:
    good = {"model": "m", "release": "r", "sae_id": "s", "latent": 1}
    cases = [
        (b"\xff\xfe\x00", "a.csv", "UTF-8"),
        (b"{", "a.json", "not JSON"),
        (b"[[" * 3000, "a.json", "not JSON"),
        (b"{}", "a.json", "list of objects"),
        (b"[]", "a.json", "no latents"),
        (json.dumps([good, 3]).encode(), "a.json", "Row 2"),
        (json.dumps([good | {"latent": "x"}]).encode(), "a.json", "Row 1"),
        (json.dumps([good | {"latent": -1}]).encode(), "a.json", "from 0 up"),
        (json.dumps([good | {"latent": True}]).encode(), "a.json", "from 0 up"),
        (json.dumps([good | {"note": "n" * (MAX_NOTE + 1)}]).encode(), "a.json", "longer"),
        (json.dumps([good | {"model": ["m"]}]).encode(), "a.json", "model"),
        (b"model,release,latent\nm,r,1\n", "a.csv", "no sae_id"),
        (b"", "a.csv", "no latents"),
    ]
    for data, name, what in cases:
        with pytest.raises(ValueError, match=what):
            read_list_file(data, name)


def test_a_list_keeps_how_a_latent_was_described(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    described = replace(noted(3), description="fires on the mean")
    put_on_list(store, "a", [described])
    put_on_list(store, "a", [noted(3, "new note")])
    (kept,) = read_list(store, "a")
    assert (kept.description, kept.note) == ("fires on the mean", "new note")
    for kind in ("csv", "json"):
        assert read_list_file(export_list([kept], kind), f"a.{kind}") == [kept]
    with pytest.raises(ValueError, match="A description is longer than 2,000 characters"):
        replace(kept, description="x" * 2001)
