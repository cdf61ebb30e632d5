"""Sets of tokens in the vocabularies of several kinds of tokenizers, built in and the user's."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import regex
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from core.enrichment.builtin import builtin_sets, script_of
from core.enrichment.user_sets import match_words, read_word_lists
from core.tokens import TokenTexts, token_texts, vocabulary_texts
from tests.builders import train_tiny_tokenizer


def test_sets_of_the_tiny_byte_level_tokenizer() -> None:
    tokenizer = train_tiny_tokenizer()
    vocabulary = token_texts(tokenizer, 310)
    assert not vocabulary.known[300:].any()
    for token_id in range(4, 300):
        raw = tokenizer.decode([token_id])
        if not vocabulary.partial[token_id]:
            assert vocabulary.texts[token_id] == raw
    sets = {it.name: set(it.ids.tolist()) for it in builtin_sets(vocabulary)}
    assert sets["special tokens"] == {0, 1, 2, 3}
    texts = vocabulary.texts
    plain = [i for i in range(4, 300) if not vocabulary.partial[i]]
    assert sets["starts with a space"] == {
        i for i in plain if texts[i].startswith(" ") and texts[i].strip()
    }
    assert sets["all digits"] == {i for i in plain if texts[i].strip().isdecimal()}
    assert sets["begins with t"] == {i for i in plain if texts[i].strip()[:1] in "tT" != ""} - {
        i for i in plain if not texts[i].strip()
    }
    assert sets["parts of a character (bytes)"] == {
        i for i in range(300) if "\ufffd" in tokenizer.decode([i])
    }
    assert 0 not in builtin_sets(vocabulary).universe[300:]
    with pytest.raises(ValueError, match="no tokenizer"):
        vocabulary_texts(SimpleNamespace(tokenizer=None, W_U=np.zeros((2, 5))))


def test_sentencepiece_pieces_keep_their_space() -> None:
    words = ["<unk>", "<s>", "<0x0A>", "<0xE2>", "▁the", "the", "▁", "▁▁", "▁Ω", "42", "<mask>"]
    tokenizer = Tokenizer(
        models.BPE(
            {word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    vocabulary = token_texts(fast, len(words))
    assert vocabulary.texts[2] == "\n"
    assert vocabulary.texts[4:10] == (" the", "the", " ", "  ", " Ω", "42")
    assert vocabulary.partial.tolist() == [i == 3 for i in range(len(words))]
    assert vocabulary.special[[0, 1]].all()
    sets = {it.name: it.ids.tolist() for it in builtin_sets(vocabulary)}
    assert sets["starts with a space"] == [4, 8]
    assert sets["Greek"] == [8]
    assert sets["line breaks"] == [2]


def test_wordpiece_words_begin_with_a_space() -> None:
    words = ["[UNK]", "the", "##re", "play", "##ing"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert token_texts(fast, 5).texts[1:] == (" the", "re", " play", "ing")


SCRIPTS = {
    "Latin": "Latin",
    "Greek": "Greek",
    "Cyrillic": "Cyrillic",
    "Hebrew": "Hebrew",
    "Arabic": "Arabic",
    "Thai": "Thai",
    "Devanagari": "Devanagari",
    "Han": "Chinese characters (Han)",
    "Hangul": "Korean (Hangul)",
    "Hiragana": "Japanese (Hiragana)",
    "Katakana": "Japanese (Katakana)",
}


def test_scripts_are_those_of_unicode() -> None:
    letters = [c for c in map(chr, range(0x20, 0xFFFF, 3)) if c.isalpha()]
    named = np.array([script_of(c) for c in letters])
    for unicode_name, script in SCRIPTS.items():
        pattern = regex.compile(rf"\p{{Script={unicode_name}}}")
        inside = np.array([bool(pattern.match(c)) for c in letters])
        # Old compatibility signs carry other names.
        assert (named[inside] == script).mean() > 0.9, unicode_name
        assert (named[~inside] == script).sum() <= 4, unicode_name


def vocabulary_of(*texts: str) -> TokenTexts:
    no = np.zeros(len(texts), dtype=bool)
    return TokenTexts(texts, tuple(it.encode() for it in texts), no, no, ~no)


def test_lists_of_the_user() -> None:
    vocabulary = vocabulary_of(" red", "Red", "red", "blue", " Anna", "anna", "<b>", "x")
    data = json.dumps({"colours": ["red", "blue", "mauve"], "names": ["Anna"], "spaced": [" red"]})
    lists = read_word_lists(data.encode(), "mine.json")
    matched = match_words(vocabulary, lists)
    assert {it.name: it.ids.tolist() for it in matched.sets} == {
        "colours": [0, 1, 2, 3],
        "names": [4],
        "spaced": [0],
    }
    assert matched.missing["colours"] == ("mauve",)
    wide = read_word_lists("\ufeffcolours,names\nred,Anna\nblue,\n".encode(), "mine.csv")
    assert [(it.name, it.words) for it in wide] == [
        ("colours", ("red", "blue")),
        ("names", ("Anna",)),
    ]
    long = read_word_lists(b"set;word".replace(b";", b",") + b"\na,red\na,blue\nb,x\n", "m.csv")
    assert [(it.name, it.words) for it in long] == [("a", ("red", "blue")), ("b", ("x",))]
    nothing = match_words(vocabulary, read_word_lists(b'{"none": ["zebra"]}', "m.json"))
    assert len(nothing.sets) == 0
    assert nothing.sets.left_out == ("none",)
    assert builtin_sets(vocabulary).joined(matched.sets).number("colours") is not None


@pytest.mark.parametrize(
    ("data", "name", "match"),
    [
        (b"\xff\xfe\x00", "m.csv", "UTF-8"),
        (b"[1, 2]", "m.json", "holds a list"),
        (b'{"a": 3}', "m.json", "not a list of words"),
        (b"{", "m.json", "not JSON"),
        (b"", "m.csv", "no list of words"),
        (b"x" * 6_000_000, "m.csv", "at most"),
        (json.dumps({str(i): ["a"] for i in range(300)}).encode(), "m.json", "300 lists"),
    ],
)
def test_bad_files_get_a_sentence(data: bytes, name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_word_lists(data, name)
