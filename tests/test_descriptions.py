"""Descriptions of latents: the table, files, what the user saved, search, the offline describer."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.descriptions import (
    EXPORT_FORMATS,
    NEURONPEDIA,
    OFFLINE,
    YOURS,
    Descriptions,
    describe_latents,
    export_descriptions,
    forget_user_descriptions,
    load_user_descriptions,
    read_descriptions_file,
    save_user_descriptions,
    search_texts,
    search_tokens,
)
from core.descriptions.token_text import quoted
from core.descriptions.wording import terms_of
from core.jobs.progress import JobCancelled, Progress
from core.store import Store

# The table


def test_from_a_table_to_a_table() -> None:
    frame = pd.DataFrame({"index": [3, 1, 3, 0], "description": ["old", " one ", "new", " "]})
    descriptions = Descriptions.from_frame(frame, 5, source=NEURONPEDIA)
    assert descriptions.texts.tolist() == ["", "one", "", "new", ""]
    assert descriptions.sources.tolist() == ["", "neuronpedia", "", "neuronpedia", ""]
    assert np.isnan(descriptions.scores).all()
    assert descriptions.missing == 3
    assert descriptions.counts() == {"neuronpedia": 2}
    again = Descriptions.from_frame(descriptions.to_frame(), 5)
    assert again.texts.tolist() == descriptions.texts.tolist()
    assert again.sources.tolist() == descriptions.sources.tolist()
    assert descriptions.to_frame([4, 3])["index"].tolist() == [3]


def test_merging_fills_gaps_in_order() -> None:
    yours = Descriptions.from_texts(["", "mine", ""], source=YOURS, scores=[0.1, 0.2, 0.3])
    theirs = Descriptions.from_texts(["a", "b", ""], source=NEURONPEDIA)
    found = Descriptions.from_texts(["x", "y", "z"], source=OFFLINE)
    merged = yours.merge(theirs, found)
    assert merged.texts.tolist() == ["a", "mine", "z"]
    assert merged.sources.tolist() == ["neuronpedia", "yours", "offline"]
    np.testing.assert_array_equal(merged.scores, np.array([np.nan, 0.2, np.nan], np.float32))
    assert yours.texts.tolist() == ["", "mine", ""]
    with pytest.raises(ValueError, match="descriptions of 3 and of 2 latents"):
        yours.merge(Descriptions.none(2))


def test_tables_of_another_sae_are_refused() -> None:
    frame = pd.DataFrame({"index": [0, 9], "description": ["a", "b"]})
    with pytest.raises(ValueError, match=r"1 of 2 descriptions .* outside 0 to 4 \(such as 9\)"):
        Descriptions.from_frame(frame, 5, source=YOURS)
    with pytest.raises(ValueError, match="no column 'description'; it has index"):
        Descriptions.from_frame(frame[["index"]], 5, source=YOURS)


# Files


FILES: dict[str, tuple[str, bytes]] = {
    "csv": ("a.csv", b'latent,explanation,score\n1,dates,0.5\n0,"names, places",\n'),
    "semicolons": ("a.csv", b"feature;label;score\n1;dates;0.5\n0;names, places;\n"),
    "tsv": ("A.TSV", b"Index\tDescription\tscore\r\n1\tdates\t0.5\r\n0\tnames, places\t\r\n"),
    "bom": ("a.csv", b'\xef\xbb\xbfindex,description,score\n1,dates,.5\n0,"names, places",nan\n'),
    "utf-16": (
        "a.csv",
        'index,description,score\n1,dates,0.5\n0,"names, places",\n'.encode("utf-16"),
    ),
    "jsonl": (
        "a.jsonl",
        b'{"index": "1", "description": " dates", "score": 0.5}\n\n'
        b'{"index": 0.0, "description": "names, places", "other": [1]}\n',
    ),
    "json": (
        "a.json",
        b'[{"index": 1, "label": "dates", "score": "0.5"}, {"index": 0, "label": "names, places"}]',
    ),
    "json by index": (
        "a.json",
        b'{"1": {"description": "dates", "score": 0.5}, "0": "names, places"}',
    ),
    "old export": (
        "a.json",
        b'{"explanations": [{"index": "1", "description": "dates", "score": 0.5},'
        b' {"index": "0", "description": "names, places", "score": null}]}',
    ),
}


@pytest.mark.parametrize("form", FILES)
def test_forms_of_files(form: str) -> None:
    name, data = FILES[form]
    read = read_descriptions_file(data, name, d_sae=3)
    assert read.descriptions.texts.tolist() == ["names, places", "dates", ""]
    assert read.descriptions.sources.tolist() == ["yours", "yours", ""]
    np.testing.assert_array_equal(
        read.descriptions.scores, np.array([np.nan, 0.5, np.nan], np.float32)
    )
    assert (read.rows, read.repeated, read.blank) == (2, 0, 0)


def test_the_last_of_several_counts() -> None:
    data = b"index,description\n1,first\n2,\n1,second\n"
    read = read_descriptions_file(data, "a.csv", d_sae=3)
    assert read.descriptions.texts.tolist() == ["", "second", ""]
    assert (read.rows, read.repeated, read.blank) == (3, 1, 1)


def test_texts_of_several_lines_keep_the_count_of_lines() -> None:
    data = b'index,description\n1,"two\nlines"\nx,oops\n'
    with pytest.raises(ValueError, match="line 4, column 'index' is 'x'"):
        read_descriptions_file(data, "a.csv", d_sae=3)


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "no index": ("a.csv", b"id,description\n1,a\n", "line 1 has no column 'index'"),
    "no text": ("a.csv", b"index,text\n1,a\n", "line 1 has no column 'description'"),
    "empty": ("a.csv", b"", "line 1 has no column 'index' .*; it has nothing"),
    "only a header": ("a.csv", b"index,description\n", "has no rows"),
    "latin-1": ("a.csv", b"index,description\n1,caf\xe9\n", r"UTF-8 text \(line 2, byte 0xe9\)"),
    "not a number": ("a.csv", b"index,description\none,a\n", "line 2, column 'index' is 'one'"),
    "a fraction": ("a.csv", b"index,description\n1.5,a\n", "column 'index' is '1.5'"),
    "infinite": ("a.csv", b"index,description\ninf,a\n", "column 'index' is 'inf'"),
    "bad score": (
        "a.csv",
        b"index,description,score\n1,a,good\n",
        "line 2, column 'score' is 'good'",
    ),
    "too many columns": ("a.csv", b"index,description\n1,a, b\n", "line 2 has 3 columns"),
    "open quote": ("a.csv", b'index,description\n1,"a\n', "line 2 is not valid CSV"),
    "outside": (
        "a.csv",
        b"index,description\n0,a\n9,b\n-1,c\n",
        r"2 of 3 rows of a.csv .* 0 to 2 \(the first is 9, line 3\)",
    ),
    "bad json line": ("a.jsonl", b'{"index": 0, "description": "a"}\n{"ind', "line 2, column"),
    "no object": ("a.jsonl", b"[1]\n", "line 1 is .*write an object"),
    "no column in json": ("a.jsonl", b'{"index": 1}\n', "line 1 has no column 'description'"),
    "number as text": ("a.jsonl", b'{"index": 1, "description": 5}', "'description' is 5"),
    "bad json": ("a.json", b'[{"index": 0,\n "description"', "line 2, column .* is not valid JSON"),
    "json text": ("a.json", b'"hello"', "a list of objects is needed"),
    "deep json": ("a.json", b"[" * 100_000, "JSON"),
    "bad parquet": ("a.parquet", b"PAR1 nothing", "not a whole Parquet file"),
    "unknown ending": ("a.xlsx", b"PK", "does not end in .csv"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_errors_of_files_are_one_sentence(problem: str) -> None:
    name, data, sentence = BAD_FILES[problem]
    with pytest.raises(ValueError, match=sentence) as caught:
        read_descriptions_file(data, name, d_sae=3)
    assert str(caught.value).startswith(name) or name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no.csv cannot be read \(No such file"):
        read_descriptions_file(tmp_path / "no.csv", d_sae=3)


@settings(max_examples=25)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=6))
@pytest.mark.parametrize("file_format", EXPORT_FORMATS)
def test_exports_read_back(file_format: str, texts: list[str]) -> None:
    # What a file cannot hold is cleaned on the way in: compare what was cleaned.
    cleaned = [" ".join(text.replace("\0", " ").split()) for text in texts]
    original = Descriptions.from_texts(
        ["always one", *cleaned], source=YOURS, scores=np.arange(len(texts) + 1) / 7
    )
    data = export_descriptions(original, file_format)
    read = read_descriptions_file(data, f"x.{file_format}", d_sae=original.d_sae)
    assert read.descriptions.texts.tolist() == original.texts.tolist()
    np.testing.assert_allclose(read.descriptions.scores, original.scores, rtol=1e-5)


def test_there_is_no_other_export() -> None:
    with pytest.raises(ValueError, match="no format 'xlsx'; choose csv, jsonl, parquet"):
        export_descriptions(Descriptions.none(1), "xlsx")


# What the user saved


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def test_saved_descriptions_come_back(store: Store) -> None:
    assert load_user_descriptions(store, "abc", 3) is None
    save_user_descriptions(store, "abc", Descriptions.from_texts(["a", "b", ""], source="file"))
    store.clear_recomputable()
    loaded = load_user_descriptions(store, "abc", 3)
    assert loaded is not None
    assert loaded.texts.tolist() == ["a", "b", ""]
    assert loaded.sources.tolist() == ["yours", "yours", ""]
    assert load_user_descriptions(store, "another", 3) is None

    new = Descriptions.from_texts(["", "B", "C"], source="file", scores=[0, 0.5, 1])
    assert save_user_descriptions(store, "abc", new).texts.tolist() == ["a", "B", "C"]
    assert save_user_descriptions(store, "abc", new, replace=True).texts.tolist() == ["", "B", "C"]
    loaded = load_user_descriptions(store, "abc", 3)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.scores, np.array([np.nan, 0.5, 1], np.float32))

    with pytest.raises(ValueError, match="another SAE"):
        load_user_descriptions(store, "abc", 2)
    forget_user_descriptions(store, "abc")
    assert load_user_descriptions(store, "abc", 3) is None


# Search


TEXTS = ["Fires on Matrices", "dates (1999)", "", "straße", "half \ud800 pair", "a.b", "axb"]


@pytest.mark.parametrize(
    ("query", "options", "expected"),
    [
        ("matri", {}, [0]),
        ("matri", {"case_sensitive": True}, []),
        ("Matri", {"case_sensitive": True}, [0]),
        ("a.b", {}, [5]),
        ("a.b", {"regex": True}, [5, 6]),
        ("STRASSE", {}, [3]),
        ("(", {}, [1]),
        (r"\d{4}|^half", {"regex": True}, [1, 4]),
        (r"^FIRES.*s$", {"regex": True}, [0]),
        (r"^FIRES.*s$", {"regex": True, "case_sensitive": True}, []),
        (r"^$", {"regex": True}, [2]),
        ("\ud800", {}, [4]),
    ],
)
def test_search(query: str, options: dict[str, bool], expected: list[int]) -> None:
    mask = search_texts(TEXTS, query, **options)
    assert mask.dtype == bool
    assert np.flatnonzero(mask).tolist() == expected


@settings(max_examples=100)
@given(
    texts=st.lists(st.text(alphabet="abAB.*(", max_size=8), max_size=8),
    query=st.text(alphabet="abAB.*(", min_size=1, max_size=3),
    case_sensitive=st.booleans(),
)
def test_search_agrees_with_re(texts: list[str], query: str, case_sensitive: bool) -> None:
    flags = 0 if case_sensitive else re.IGNORECASE
    plain = [bool(re.search(re.escape(query), text, flags)) for text in texts]
    assert search_texts(texts, query, case_sensitive=case_sensitive).tolist() == plain
    pattern = f"[{re.escape(query)}]+a?"
    matched = [bool(re.search(pattern, text, flags)) for text in texts]
    found = search_texts(texts, pattern, regex=True, case_sensitive=case_sensitive)
    assert found.tolist() == matched


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(", r"'\(' is not a regular expression"),
        ("a{3000}", "repetition size"),
        ("(?=a)", "look-around and back-references are not supported"),
        (r"(a)\1", "look-around and back-references are not supported"),
        ("x" * 1001, "1001 characters long"),
        ("", "search is empty"),
    ],
)
def test_bad_patterns(pattern: str, sentence: str) -> None:
    for texts in (["abc"], []):
        with pytest.raises(ValueError, match=sentence):
            search_texts(texts, pattern, regex=True)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(x+x+)+y", "(.*a.{20}){5}c"])
def test_no_pattern_hangs(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By backtracking, each would take more steps than can ever be made."""
    monkeypatch.setattr("core.descriptions.search.MAX_SECONDS", math.inf)
    assert not search_texts(["a" * 5000 + "!"] * 50, pattern, regex=True).any()


def test_a_search_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.descriptions.search.MAX_SECONDS", 0.0)
    with pytest.raises(ValueError, match="search for something simpler"):
        search_texts(["abc"] * 5000, "a", regex=True)


def test_search_of_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.descriptions.search.MAX_SECONDS", math.inf)
    texts = [f'fires on "token {n}"; boosts " of", " with"' for n in range(100_000)]
    for regex in (False, True):
        assert search_texts(texts, "TOKEN 99999", regex=regex).sum() == 1


def test_search_of_tokens() -> None:
    vocabulary = [" of", "Of", "array", "\n"]
    ids = np.array([[0, 2], [1, -1], [3, 2], [-1, -1]])
    assert search_tokens(vocabulary, ids, "of").tolist() == [True, True, False, False]
    assert search_tokens(vocabulary, ids, r"\n", regex=True).tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="Token ids go from -1 to 3; the vocabulary has 2"):
        search_tokens(vocabulary[:2], ids, "of")


# The offline describer


VOCABULARY = [
    *(" array", " arrays", " Array", "np", " np", ".", " the", " of", " with", " a", "\n", "    "),
    *(" comput", "ing", " us", " mak", "ed", " 3", " 17", " 205", "(", '"', " pre", "dict", "view"),
    *(" eigen", "values", " matrix", " is", " was", " has", " can", " one", " two", " red"),
    *(" blue", " green", "<unk>", " token", "iser", " x", " y", " z", " q"),
]
ID = {text: number for number, text in enumerate(VOCABULARY)}
WIDTH, PEAK = 7, 3


def latent(*windows: str) -> np.ndarray:
    """Windows [n, WIDTH] from tokens separated by `|`, the peak in `<>`."""
    rows = np.full((len(windows), WIDTH), -1)
    for row, window in enumerate(windows):
        tokens = window.split("|")
        peak = next(i for i, token in enumerate(tokens) if token.startswith("<"))
        for i, token in enumerate(tokens):
            column = PEAK + i - peak
            if 0 <= column < WIDTH:
                text = token[1:-1] if i == peak else token
                rows[row, column] = ID[text]
    return rows


FILLER = [" red", " blue", " green", " one", " two", " x", " y", " z", " q"]


def describe(
    *latents: np.ndarray, values: np.ndarray | None = None, boosted: np.ndarray | None = None
):
    n = max(map(len, latents))
    windows = np.stack([np.pad(w, ((0, n - len(w)), (0, 0)), constant_values=-1) for w in latents])
    if values is None:
        values = np.ones(windows.shape[:2], dtype=np.float32)
    return describe_latents(windows, values, VOCABULARY, n_before=PEAK, boosted=boosted)


def background() -> list[np.ndarray]:
    """Latents without any pattern: what is common among them is no pattern of others."""
    return [
        latent(
            *(
                f"{FILLER[(i + j) % 9]}|<{FILLER[(2 * i + j) % 9]}>|{FILLER[(5 * i + j) % 9]}"
                for i in range(9)
            )
        )
        for j in range(9)
    ]


def test_a_latent_of_one_word() -> None:
    boosted = np.array([[ID["<unk>"], ID[" of"], ID[" with"], -1]] + [[-1] * 4] * 9)
    windows = np.stack(
        [
            latent(
                *[f" red|<{w}>| blue" for w in (" array",) * 6 + (" Array", " arrays")] + [" x|<.>"]
            )
        ]
    )
    out = describe_latents(
        windows,
        np.ones((1, 9)),
        VOCABULARY,
        n_before=PEAK,
        boosted=boosted[:1],
        special_ids=[ID["<unk>"]],
    )
    pattern = out.patterns[0]
    assert (pattern.kind, pattern.token) == ("word", "array")
    assert pattern.share == pytest.approx(7 / 9)
    assert out.texts[0].startswith('fires on "array"')
    assert out.texts[0].endswith('boosts " of", " with"')


def test_what_always_stands_beside_is_said() -> None:
    np_array = latent(
        *[f"{f}| np|.|<{w}>| of" for f, w in zip(FILLER, [" array"] * 9, strict=True)]
    )
    out = describe(np_array, *background())
    assert out.texts[0] == 'fires on "array"; after "np."; before "of"'


def test_a_latent_of_the_word_before() -> None:
    out = describe(latent(*[f" matrix|<{f}>" for f in FILLER]), *background())
    assert out.patterns[0].kind == "after"
    assert out.patterns[0].share == 1.0
    assert out.texts[0].startswith('fires after "matrix", on "')


def test_a_latent_of_the_word_after() -> None:
    out = describe(latent(*[f"<{f}>| of" for f in FILLER]), *background())
    assert out.patterns[0].kind == "before"
    assert out.texts[0].startswith('fires before "of", on "')


def test_a_neighbour_that_every_latent_has_is_not_said() -> None:
    everywhere = [latent(*[f" matrix|<{FILLER[(i + j) % 9]}>" for i in range(9)]) for j in range(9)]
    assert all(pattern.after == "" for pattern in describe(*everywhere).patterns)


def test_pieces_of_words_are_put_together() -> None:
    out = describe(
        latent(" x| comput|<ing>", " y| us|<ing>", " z| mak|<ing>", " q| token|<ing>"),
        latent("<np>|.", "<np>|dict", "(|<np>|view", "(|<np>|iser"),
        latent(" one|<.>", " two|<.>", " red|<.>"),
        latent(" x| token|<iser>", " a| token|<iser>"),
    )
    assert out.patterns[0].kind == "ending"
    assert out.texts[0] == 'fires on words ending "ing": "computing", "using", "making"'
    assert out.patterns[1].kind == "beginning"
    assert out.texts[1].startswith('fires on words starting "np": "np')
    assert out.texts[2] == 'fires on "."'
    assert out.texts[3] == 'fires on "tokeniser"'


def test_endings_that_are_not_one_token() -> None:
    vocabulary = [" creation", " relation", " notation", " station", " red"]
    windows = np.arange(4).reshape(1, 4, 1)
    out = describe_latents(windows, np.ones((1, 4)), vocabulary, n_before=0)
    assert out.patterns[0].kind == "ending"
    assert out.patterns[0].token == "ation"


def test_numbers() -> None:
    out = describe(latent("(|< 3>", " x|< 17>", " y|< 205>"))
    assert out.texts == ['fires on numbers such as "3", "17", "205"']
    assert out.patterns[0].token == "numbers"


def test_words_around_make_a_topic() -> None:
    fillers = FILLER[:8]
    topical = latent(*(f" eigen|values|{f}|<{FILLER[(i + 3) % 9]}>" for i, f in enumerate(fillers)))
    out = describe(topical, *background())
    assert out.patterns[0].kind == "topic"
    assert out.patterns[0].topic == ("eigenvalues",)
    assert out.texts[0].startswith('near "eigenvalues", on "')
    assert {pattern.kind for pattern in out.patterns[1:]} == {"mixed"}


def test_dead_latents_and_weak_peaks() -> None:
    windows = np.stack([latent("< array>", "< of>", "< of>")] * 4)
    values = np.array([[4.0, 0.9, 0.8], [0, 0, 0], [np.nan, -1, 0], [0, 1, 1]])
    out = describe_latents(windows, values, VOCABULARY, n_before=PEAK)
    assert out.texts == ['fires on "array"', "", "", 'fires on "of"']
    assert [p.n_peaks for p in out.patterns] == [1, 0, 0, 2]
    assert out.patterns[1].kind == "none"


def test_texts_fit_on_one_line() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [*VOCABULARY, "x" * 80, " \n\n  \t", "\x00", "\ufffd", '"', "'\""]
    windows = rng.integers(-1, len(vocabulary), (200, 6, WIDTH))
    windows[50:, 1:, PEAK] = windows[50:, :1, PEAK]
    boosted = rng.integers(-1, len(vocabulary), (200, 5))
    out = describe_latents(
        windows, rng.random((200, 6)), vocabulary, n_before=PEAK, boosted=boosted, max_chars=80
    )
    for text in out.texts:
        assert len(text) <= 80
        assert text.isprintable()
    again = describe_latents(
        windows.copy(), rng.random((200, 6)) * 0 + 1, vocabulary, n_before=PEAK, boosted=boosted
    )
    twice = describe_latents(windows, np.ones((200, 6)), vocabulary, n_before=PEAK, boosted=boosted)
    assert again == twice


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ('fires on "on", "Before"; after "np."; boosts " near", " with"', "on|before|after np."),
        ('fires on words starting "re": "redo", "Re"; before "↵"', "re…|redo|re|before “↵”"),
        ('fires on words ending "ing": "being"', "…ing|being"),
        ("fires on '\"' inside words: 'a\"s'", '…“"”…|a"s'),
        ('fires on numbers such as "12", \'"3\'; after "= "', "numbers|after “=”"),
        ('fires after "the", on "axis", "12", "7"', "after the|axis|numbers"),
        ('near "loss", "grad", on "step"', "loss|grad|step"),
        ('mixed: "a_b", "words", ")."', "a_b|words|“).”"),
        ('fires on "such as 1", "=; on"', "such as 1|=; on"),
        ("verbs on words before nouns; boosts morale", None),
    ],
)
def test_a_line_in_terms(text: str, terms: str | None) -> None:
    found = terms_of(text)
    assert (None if found is None else "|".join(found)) == terms


def test_signs_for_what_cannot_be_seen() -> None:
    assert quoted("\n") == '"↵"'
    assert quoted("\n\n    ") == '"↵×2␣×4"'
    assert quoted(" ") == '"␣"'
    assert quoted("    ") == '"␣×4"'
    assert quoted(" of") == '" of"'
    assert quoted('("') == "'(\"'"
    assert quoted("\t\x07") == '"⇥\\x07"'


def test_a_description_does_not_depend_on_the_order_of_latents() -> None:
    latents = [latent("< array>", "< of>"), *background()]
    forward, backward = describe(*latents), describe(*latents[::-1])
    assert forward.texts == backward.texts[::-1]


def test_describing_can_be_cancelled() -> None:
    progress = Progress()
    describe_latents(
        np.stack(background()), np.ones((9, 9)), VOCABULARY, n_before=PEAK, progress=progress
    )
    assert progress.view().unit == "latents"
    progress.cancel()
    with pytest.raises(JobCancelled):
        describe_latents(
            np.stack(background()), np.ones((9, 9)), VOCABULARY, n_before=PEAK, progress=progress
        )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"windows": np.zeros((2, 3), int)}, "give \\[d_sae, n_top, window\\]"),
        ({"values": np.ones((2, 2))}, "give \\[d_sae, n_top, window\\]"),
        ({"n_before": 5}, "n_before is 5; windows are 5 tokens wide"),
        ({"windows": np.full((2, 3, 5), 4)}, "Token ids of windows go from 4 to 4"),
        ({"boosted": np.full((2, 1), 9)}, "Token ids of boosted"),
        ({"boosted": np.zeros((3, 1), int)}, "for 2 latents"),
    ],
)
def test_shapes_that_do_not_fit(change: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {
        "windows": np.zeros((2, 3, 5), int),
        "values": np.ones((2, 3)),
        "vocabulary": ["a", "b"],
        "n_before": 1,
        **change,
    }
    with pytest.raises(ValueError, match=sentence):
        describe_latents(**arguments)  # type: ignore[arg-type]


def test_a_wide_sae() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f" w{n}" if n % 3 else f"w{n}" for n in range(4000)]
    windows = rng.zipf(1.3, (2048, 20, 21)) % 4000
    # One word at every peak of the first thousand, and the next token begins a word.
    windows[:1000, :, 10] = 3 * rng.integers(0, 1333, (1000, 1)) + 1
    windows[:1000, :, 11] = 1
    out = describe_latents(windows, np.ones((2048, 20)), vocabulary, n_before=10)
    assert sum(pattern.kind == "word" for pattern in out.patterns) >= 1000
    json.dumps(out.texts)
