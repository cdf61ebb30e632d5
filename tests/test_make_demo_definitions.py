"""Where the tuned model's definitions come from: mined entries, summaries, WordNet."""

import gzip

import pytest
import requests

from core.docs_corpus import Docstring
from make_demo.definitions import choose_definitions, read_glossary, stems, tidy
from make_demo.wordnet import Gloss, load_glosses

PARAMETERS = """Do a thing.

Parameters
----------
axis : int
    Axis along which to operate. Default is 0.
other : str, optional
    Something `else` that matters.

Returns
-------
out : array
"""


def _docs(text: str, copies: int, name: str = "f") -> list[Docstring]:
    return [Docstring("package", name, f"{text}\n{n}") for n in range(copies)]


def test_repeated_parameter_description_wins_over_wordnet():
    glosses = {"axis": [Gloss("noun.object", "the center around which something rotates")]}
    assert choose_definitions(_docs(PARAMETERS, 4), glosses, ["axis"]) == {
        "axis": "Axis along which to operate"
    }
    # Three copies are not enough to be believed.
    assert choose_definitions(_docs(PARAMETERS, 3), glosses, ["axis"]) == {
        "axis": "the center around which something rotates"
    }


def test_sense_is_the_one_whose_words_the_docs_use():
    docs = _docs("The rectangular array of quantities has rows and columns.", 3)
    glosses = {
        "matrix": [
            Gloss("noun.body", "the formative tissue at the base of a nail"),
            Gloss("noun.object", "a rectangular array of quantities set out by rows and columns"),
        ]
    }
    chosen = choose_definitions(docs, glosses, ["matrix"])
    assert chosen["matrix"].startswith("a rectangular array")


def test_no_two_words_share_a_definition_except_with_their_stem():
    line = "an arrangement of objects side by side in a line"
    glosses = {
        "row": [Gloss("noun.group", line)],
        "rank": [Gloss("noun.group", line), Gloss("noun.state", "a relative position in an order")],
    }
    chosen = choose_definitions(_docs("row row", 1), glosses, ["row", "rows", "rank", "ranking"])
    assert chosen["row"] == chosen["rows"] == line
    assert chosen["rank"] == chosen["ranking"] == "a relative position in an order"


@pytest.mark.parametrize(
    ("word", "stem"),
    [("samples", "sample"), ("boxes", "box"), ("mapped", "map"), ("used", "use"),
     ("entries", "entry"), ("normally", "normal"), ("scaling", "scale")],
)  # fmt: skip
def test_stems(word, stem):
    assert stem in stems(word)


def test_function_words_and_pieces_are_defined_too():
    docs = _docs("The contents continue; control is continuous, control is normalization.", 2)
    chosen = choose_definitions(docs, {}, ["The", "cont", "xyz"])
    assert chosen["the"] == read_glossary()["the"]
    assert chosen["cont"] == "control, contents, continue, continuous"
    assert "xyz" not in chosen


def test_a_syllable_is_no_word_even_if_a_dictionary_has_it():
    docs = _docs("The contraction of a tensor extracts one, and contracts it again.", 2)
    glosses = {"tract": [Gloss("noun.communication", "a short piece on a subject of interest")]}
    assert choose_definitions(docs, glosses, ["tract"]) == {
        "tract": "contraction, contracts, extracts"
    }


def test_glossary_is_usable_and_tells_its_words_apart():
    glossary = read_glossary()
    assert all(tidy(text) == text for text in glossary.values())
    assert len(set(glossary.values())) == len(glossary) > 200


@pytest.mark.parametrize(
    ("raw", "tidied"),
    [
        ("The `axis` to use, see :func:`~numpy.sum`. More.", "The axis to use, see numpy.sum"),
        ('A "quoted" word in it', "A 'quoted' word in it"),
        ("(mathematics) a set of points", "a set of points"),
        ("Too short", ""),
        ("x = y for all of them", ""),
        ("word " * 40, ""),
    ],
)
def test_tidy(raw, tidied):
    assert tidy(raw) == tidied


def test_lmf_file_gives_the_same_glosses_as_the_table(tmp_path):
    lmf = tmp_path / "wn.xml.gz"
    body = (
        '<LexicalResource><Lexicon id="oewn">'
        '<LexicalEntry id="e1"><Lemma writtenForm="Graph" partOfSpeech="n"/>'
        '<Sense id="s1" synset="syn1"/></LexicalEntry>'
        '<Synset id="syn1" lexfile="noun.cognition"><Definition>a drawing of a relation'
        "</Definition></Synset></Lexicon></LexicalResource>"
    )
    lmf.write_bytes(gzip.compress(body.encode()))
    table = tmp_path / "wn.tsv"
    table.write_text(
        "word\tpos\tfield\tdefinition\texamples\n"
        "graph\tn\tnoun.cognition\ta drawing of a relation\t\n"
    )
    expected = {"graph": [Gloss("noun.cognition", "a drawing of a relation")]}
    assert load_glosses(lmf, download_to=tmp_path) == expected
    assert load_glosses(table, download_to=tmp_path) == expected


def test_without_network_there_are_no_glosses_and_no_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", refuse)
    assert load_glosses(None, download_to=tmp_path) == {}


def test_missing_wordnet_file_names_the_accepted_kinds(tmp_path):
    with pytest.raises(ValueError, match="LMF"):
        load_glosses(tmp_path / "nothing.tsv", download_to=tmp_path)
