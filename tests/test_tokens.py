"""Tokens as text, for every kind of tokenizer: one by one, whole vocabularies, and rows."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.autointerp.examples import Example
from core.autointerp.prompts import ExplainerOptions, generation_prompts, simulation_prompts
from core.autointerp.rules import word_groups, words_of
from core.descriptions.offline import describe_latents
from core.latent.examples import ExampleRow, rows_html
from core.patch_scoping.prompt import _extents
from core.plotly_text import escaped
from core.tokens import (
    join_parts,
    join_row,
    joined_text,
    row_texts,
    token_text,
    token_texts,
    vocabulary_texts,
    whole_characters,
)
from core.view.markup import shaded_tokens
from tests.tokenizer_kinds import (
    EXACT,
    LOSSY,
    byt5,
    characters,
    gemma,
    gpt2,
    llama2,
    with_added,
    with_holes,
)

KINDS = EXACT | LOSSY
NASTY = (
    "Naïve  café, 日本語 and 😀👩\u200d👩\u200d👧!\n\n\tdef f(x):\n    return   x # don't\r\n"
    "שלום \u202egnp.exe\u202c \u200f. 's , $x$ <b>&amp;</b> `code` **bold** :smile: e\u0301 ▲ "
    "the <s "
)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module", params=KINDS)
def named(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Name of a kind, and a tokenizer of it."""
    return request.param, KINDS[request.param]()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("text", [NASTY, f" {NASTY}", "the mean of an array", "日本語", "\n"])
def test_a_row_of_tokens_gives_the_text_back(name: str, text: str) -> None:
    tokenizer = EXACT[name]()
    found = row_texts(tokenizer, ids_of(tokenizer, text))
    # Some put one space in front of every text that they read, and that space is in the tokens.
    in_front = len(found.text) - len(text)
    assert found.text == " " * in_front + text
    assert in_front == (1 if name in ("Llama-2", "Mistral") and ids_begin(tokenizer, text) else 0)
    assert "\ufffd" not in "".join(found.cells)


def ids_begin(tokenizer: Any, text: str) -> bool:
    """Whether the tokens begin with one more space than the text has."""
    pieces = "".join(tokenizer.convert_ids_to_tokens(ids_of(tokenizer, text)))
    return pieces.startswith("▁" * (1 + len(text) - len(text.lstrip(" "))))


@pytest.mark.parametrize("text", [NASTY, "the mean of naive thee", "a b"])
def test_rows_agree_with_decoding_them_but_for_spaces_at_the_ends(
    named: tuple[str, Any], text: str
) -> None:
    # What lower-cases, or knows some words only, cannot give the text back, but what it decodes to.
    _, tokenizer = named
    ids = ids_of(tokenizer, text)
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if "\ufffd" in decoded:
        pytest.skip("its decoder spoils added tokens that have letters of other alphabets")
    assert joined_text(tokenizer, ids).strip() == decoded.strip()


def test_no_two_tokens_look_alike(named: tuple[str, Any]) -> None:
    _, tokenizer = named
    texts = token_texts(tokenizer, max(tokenizer.get_vocab().values()) + 50)
    assert len(set(texts.texts)) == len(texts.texts)
    assert not any("\ufffd" in it or it == "" for it in texts.texts)
    for token_id in tokenizer.all_special_ids:
        assert texts.texts[token_id] == tokenizer.convert_ids_to_tokens(token_id)
        assert texts.special[token_id]
    assert texts.texts[-1] == f"<{len(texts) - 1}>"
    assert not texts.known[-1]
    assert texts.text(10**6) == "<1000000>"


def test_each_text_is_what_the_token_adds_to_a_row(named: tuple[str, Any]) -> None:
    name, tokenizer = named
    texts = token_texts(tokenizer)
    anchor = ids_of(tokenizer, "t" if name == "CLIP" else "a" if "holes" in name else "the")[-1:]
    before = tokenizer.decode(anchor * 2, clean_up_tokenization_spaces=False)
    checked = 0
    for token_id in np.flatnonzero(texts.known & ~texts.partial & ~texts.special).tolist():
        after = tokenizer.decode([*anchor * 2, token_id], clean_up_tokenization_spaces=False)
        added = after[len(before) :]
        if "\ufffd" in added or name in ("BERT", "CLIP"):
            continue  # cleaning up, and ends of words, are seen in whole rows above
        assert texts.plain(token_id) == added, token_id
        checked += 1
    assert checked > 2 or name in ("BERT", "CLIP")


def test_spaces_in_front_are_kept_and_bytes_are_named() -> None:
    tokenizer = llama2()
    ids = tokenizer.convert_tokens_to_ids(["▁the", "the", "'s", "▁'s", "<0xE2>", "<0x0A>", "<s>"])
    expected = [" the", "the", "'s", " 's", "<0xE2>", "\n", "<s>"]
    assert [token_text(tokenizer, it) for it in ids] == expected
    assert token_text(tokenizer, len(tokenizer)) == f"<{len(tokenizer)}>"
    assert token_text(None, 17) == "17"
    # Where a letter and its byte both are tokens, the byte is named; the line break is not twice.
    letter, byte = tokenizer.convert_tokens_to_ids(["a", "<0x61>"])
    assert (token_text(tokenizer, letter), token_text(tokenizer, byte)) == ("a", "<0x61>")
    texts = token_texts(tokenizer)
    assert (texts.plain(byte), texts.partial[byte]) == ("a", False)
    assert texts.partial.sum() == 128, "bytes of 128 and above are no characters"


def test_gemmas_line_breaks_and_spaces() -> None:
    tokenizer = gemma()
    pieces = ["\n", "<0x0A>", "▁▁▁", "▁▁", "  "]
    ids = [tokenizer.get_vocab()[it] for it in pieces]
    expected = ["\n", "<0x0A>", "   ", "  ", f"  <{ids[-1]}>"]
    assert [token_text(tokenizer, it) for it in ids] == expected
    assert joined_text(tokenizer, ids) == "\n\n       "


def test_where_characters_are_tokens_they_are_what_they_are() -> None:
    """Signs that stand for spaces and bytes elsewhere tell nothing of such a vocabulary."""
    tokenizer = characters()
    text = "ß ½ Ġ ▁ İ ﬁ \x8e"
    assert joined_text(tokenizer, ids_of(tokenizer, text)) == text
    assert [token_text(tokenizer, it) for it in ids_of(tokenizer, "ßĠ▁İ")] == list("ßĠ▁İ")


def test_added_tokens_and_ids_beyond_the_length() -> None:
    tokenizer = with_added()
    texts = {
        it: token_text(tokenizer, tokenizer.get_vocab()[it]) for it in ("<think>", "ż", "日本")
    }
    assert texts == {it: it for it in texts}
    assert not token_texts(tokenizer).special[tokenizer.get_vocab()["<think>"]]
    wide = with_holes()
    assert len(wide) < 900
    assert token_text(wide, 900) == "ab"
    assert token_text(wide, 899) == "<899>"
    before = token_texts(tokenizer)
    assert token_texts(tokenizer) is before, "read once"
    tokenizer.add_tokens(["<more>"])
    assert token_texts(tokenizer).texts[-1] == "<more>"


def test_a_vocabulary_has_as_many_texts_as_the_model_has_outputs() -> None:
    tokenizer = byt5()
    for n in (100, 384, 400):
        model = SimpleNamespace(tokenizer=tokenizer, W_U=np.zeros((2, n)))
        texts = vocabulary_texts(model)
        assert len(texts) == len(texts.array) == len(texts.known) == n
        ids = np.array([[70, 0], [99, 13]])
        assert texts.lists(ids) == [["C", "<pad>"], ["`", "\n"]]
        assert texts.quoted(ids) == ["'C', '<pad>'", "'`', '\\n'"]


@pytest.mark.parametrize("make", [gpt2, llama2, byt5])
def test_characters_of_several_tokens_are_one_piece(make: Any) -> None:
    tokenizer = make()
    ids = ids_of(tokenizer, "x日é")
    ids = ids[-6:]  # without a space in front
    found = row_texts(tokenizer, ids)
    assert found.parts == ("x", "日", "", "", "é", "")
    assert found.cells == ("x", "<0xE6>·日", "<0x97>·日", "<0xA5>·日", "<0xC3>·é", "<0xA9>·é")
    pieces = join_row(tokenizer, ids, [0, 1, math.nan, 3, math.nan, math.nan], peak=2)
    assert (pieces.texts, pieces.n_tokens) == (["x", "日", "é"], [1, 3, 2])
    assert (pieces.peak, pieces.starts, pieces.activations[:2]) == (1, [0, 1, 4], [0.0, 3.0])
    assert math.isnan(pieces.activations[2])
    # Cut within characters, what is left over is named.
    cut = row_texts(tokenizer, ids[2:5])
    assert cut.parts == cut.cells == ("<0x97>", "<0xA5>", "<0xC3>")
    stray = row_texts(tokenizer, [ids[3], *ids[1:4], ids[4]])
    assert stray.parts == ("<0xA5>", "日", "", "", "<0xC3>")


def test_tokens_that_share_characters_are_one_piece() -> None:
    class Bytes:
        """A tokenizer whose pieces are bytes that end anywhere."""

        pieces = (b" \xe6", b"\x97\xa5\xe6", b"\x9c\xac", b"\xa5 \xe6", b"x")

        def get_vocab(self) -> dict[bytes, int]:
            return {piece: number for number, piece in enumerate(self.pieces)}

    tokenizer = Bytes()
    assert row_texts(tokenizer, [4, 0, 1, 2, 4]).parts == ("x", " 日本", "", "", "x")
    assert token_texts(tokenizer).texts[:2] == (" <0xE6>", "<0x97><0xA5><0xE6>")
    # A left-over byte and the beginning of a character in one token.
    assert row_texts(tokenizer, [3, 1, 2]).parts == ("<0xA5> 日本", "", "")


def test_windows_with_whole_characters() -> None:
    tokenizer = gpt2()
    texts = token_texts(tokenizer)
    plain = np.array([[-1, *ids_of(tokenizer, "abc")]])
    same, vocabulary = whole_characters(plain, texts)
    assert same is plain
    assert len(vocabulary) == len(texts)
    rows = [ids_of(tokenizer, it) for it in ("日é", "é日", "é!é")]
    windows = np.full((3, 1, 7), -1)
    for row, ids in zip(windows, rows, strict=True):
        row[0, : len(ids)] = ids
    found, vocabulary = whole_characters(windows, texts)
    assert found.shape == windows.shape
    read = [[vocabulary[it] for it in row[0] if it >= 0] for row in found]
    assert read == [["日", "", "", "é", ""], ["é", "", "日", "", ""], ["é", "", "!", "é", ""]]


@pytest.mark.parametrize("make", [gpt2, llama2])
def test_the_offline_describer_reads_words(make: Any) -> None:
    tokenizer = make()
    texts = token_texts(tokenizer)
    sentences = {"日本": "to check 日本 in it", "the": "to check the mean of it"}
    windows = np.full((2, 4, 40), -1)
    for number, (word, text) in enumerate(sentences.items()):
        ids = ids_of(tokenizer, text)
        parts = row_texts(tokenizer, ids).parts
        ends = np.cumsum([len(it) for it in parts])
        # The peak is on the last token of the word: for 日本, a part of a character.
        last = int(np.flatnonzero(ends == "".join(parts).index(word) + len(word))[-1])
        windows[number, :, 30 - last : 30 - last + len(ids)] = ids[: 40 - 30 + last]
    found, vocabulary = whole_characters(windows, texts)
    lines = describe_latents(found, np.ones((2, 4)), vocabulary, n_before=30).texts
    assert lines[0].startswith('fires on "日本"')
    assert lines[1].startswith('fires on "the"')


def example(tokenizer: Any, text: str, active: str) -> Example:
    """A text in which the last token of `active`, a part of it, is active."""
    ids = ids_of(tokenizer, text)
    ends = np.cumsum([len(it) for it in row_texts(tokenizer, ids).parts])
    start = int(ends[-1]) - len(text) + text.index(active)
    last = int(np.flatnonzero(ends == start + len(active))[-1])
    acts = [float(number == last) for number in range(len(ids))]
    return Example(ids, acts, 0.5, SimpleNamespace(tokenizer=tokenizer))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [gpt2, llama2, gemma, byt5])
def test_examples_show_the_text_and_mark_what_can_be_seen(make: Any) -> None:
    tokenizer = make()
    text = "the naïve 日本 😀\n\t  \u200dok"
    for active in ("日", "本", "😀", "ï", "\n", "\t", " ", "\u200d"):
        found = example(tokenizer, text, active)
        assert found.to_str().strip() == text.replace("\n", "↵")
        marked = found.to_str(mark_toks=True)
        inside = marked.split("<<")[1].split(">>")[0]
        assert inside.strip()
        assert inside.isprintable()
        assert "\ufffd" not in marked
        if active in "日本😀ï":
            assert inside == active
    assert words_of(example(tokenizer, "in 日本 now", "日").str_toks) == ["in", "日本", "now"]
    groups = word_groups(["日", "", "", "本", "", "!"])
    assert groups == [[0, 1, 2, 3, 4], [5]]
    asked = generation_prompts(
        [example(tokenizer, "in 日本 now", "日")],
        with_examples=False,
        options=ExplainerOptions(activations=True),
    )
    assert all(it in asked[1]["content"] for it in ("<<日>>本", "'日' 10"))
    shown = example(tokenizer, "日", "日")
    lines = simulation_prompts("x", shown.cells)[1]["content"].splitlines()
    assert sum(">·日" in line for line in lines) == 3


def test_shades_cover_whole_characters() -> None:
    parts = ("a", "日", "", "", "\u202e")
    assert join_parts(parts, [0, 0, 0, 2, 0]).activations == [0, 2, 0]
    shaded = shaded_tokens(parts, [0, 0, 0, 2, 0])
    assert shaded.count("background") == 1
    assert ":color[日]" in shaded
    assert "\u202e" not in shaded
    assert "u202e" in shaded, "said, not left out"
    row = ExampleRow.from_parts(parts, [0, 0, 0, 2, 0], peak=3, value="2")
    assert (row.peak, row.n_tokens, row.value) == (1, [1, 3, 1], "2")
    assert "strongest of 3 tokens" in rows_html([row], strongest=2)


def test_places_in_a_prompt_without_a_fast_tokenizer() -> None:
    tokenizer = byt5()
    text = "Was ist 日 X?"
    ids = ids_of(tokenizer, text)
    spans = _extents(tokenizer, text, ids)
    assert [text[a:b] for a, b in spans] == [*"Was ist ", "日", "日", "日", *" X?"]


def test_every_kind_is_of_its_kind() -> None:
    # A test of the tests: which of them need their bytes put together, or have alike tokens.
    texts = {name: token_texts(make()) for name, make in EXACT.items()}
    assert all(it.partial.sum() >= 128 for it in texts.values())
    assert min(len(texts[name].told_apart) for name in ("Llama-2", "Gemma", "Mistral")) > 20
    assert not texts["GPT-2"].told_apart


def test_labels_keep_their_order_beside_text_from_right_to_left() -> None:
    assert escaped("F1.3, '<b>' (3)") == "F1.3, '&lt;b&gt;' (3)"
    assert escaped("'שלום עולם' (3)") == "'שלום עולם\u200e' (3)"
