"""The whole text that an example is from, and texts that follow from page to page."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.corpus.token_set import TokenSet
from core.latent.source_text import MOST_TOKENS, source_text
from core.latent.view import LINK
from core.tokens.vocabulary import token_texts
from tests.builders import train_tiny_tokenizer

TEXTS = ["The river runs under the bridges.", "In 1998 there were 12 of them."]


@pytest.fixture(scope="module")
def index() -> Any:
    """Two documents in rows of 8 tokens, a BOS in front of each row."""
    tokenizer = train_tiny_tokenizer(300)
    rows, places, lengths, documents, offsets = [], [], [], [], []
    for document, text in enumerate(TEXTS):
        ids = tokenizer.encode(text, add_special_tokens=False)
        for offset in range(0, len(ids), 7):
            part = ids[offset : offset + 7]
            places.append(len(rows) * 8 + 1)
            lengths.append(len(part))
            documents.append(document)
            offsets.append(offset)
            rows.append([0, *part, *[5] * (7 - len(part))])
    tokens = np.array(rows, dtype=np.int32)
    token_set = TokenSet(
        tokens=tokens,
        mask=np.arange(8) < np.array(lengths)[:, None] + 1,
        lengths=np.array(lengths, dtype=np.int32) + 1,
        segment_place=np.array(places),
        segment_length=np.array(lengths, dtype=np.int32),
        segment_document=np.array(documents, dtype=np.int32),
        segment_offset=np.array(offsets, dtype=np.int32),
        names=("about a river", "about a year"),
    )
    return SimpleNamespace(token_set=token_set, vocabulary=token_texts(tokenizer, 300))


@pytest.mark.parametrize("document", [0, 1])
def test_the_whole_document_is_put_together_from_its_rows(index: Any, document: int) -> None:
    token_set = index.token_set
    own = np.flatnonzero(token_set.segment_document == document)
    place = int(token_set.segment_place[own[-1]])  # in its last row
    found = source_text(index, place)
    assert found.name == token_set.names[document]
    assert found.plain(index, most=2000) == TEXTS[document]
    assert found.rows(8) == own.tolist()
    assert found.places[found.at] == place
    assert (found.first, found.n_document) == (0, len(found.places))
    read = {row: np.arange(8, dtype=np.float32) + 10 * row for row in own.tolist()}
    shown = found.example(index, read)
    assert "".join(shown.tokens) == TEXTS[document]
    assert len(shown.activations) == len(found.places)
    assert shown.activations[0] == 10 * own[0] + 1  # the BOS in front is not part of it
    assert not shown.starts_inside
    assert not shown.ends_inside


def test_a_part_around_the_example_where_it_is_long(index: Any, monkeypatch: Any) -> None:
    import core.latent.source_text as module

    monkeypatch.setattr(module, "MOST_TOKENS", 6)
    place = int(index.token_set.segment_place[1])
    found = source_text(index, place)
    assert len(found.places) == 6
    assert found.places[found.at] == place
    cut = source_text(index, place).plain(index, most=9)
    assert len(cut) <= 9
    assert cut in TEXTS[0]


def test_places_without_a_text_are_refused(index: Any) -> None:
    assert MOST_TOKENS == 2_000
    for place in (-1, 0, 10_000):  # before, a BOS, behind
        with pytest.raises(ValueError, match="There is no text at place"):
            source_text(index, place)


def test_what_is_opened_is_in_the_link() -> None:
    view, problems = LINK.parse({"open": "420,17"})
    assert (view.opened, problems) == ((420, 17), ())
    assert LINK.to_parameters(view) == {"open": "420,17"}


def _two_pages() -> None:
    from dataclasses import dataclass

    import streamlit as st

    from core.link import Link, LinkField, short_text
    from pages.parts import following
    from pages.parts.page_state import PageState

    @dataclass(frozen=True)
    class View:
        text: str = ""

    name = st.segmented_control("Page", ["one", "two"], default="one", key="shown") or "one"
    link = Link(View(), [LinkField("text", f"{name}_text", short_text(50))])
    page = PageState(name, link)
    view = following.follow(name, page, page.begin(), "text", most=20)
    st.text_input(
        "Text", **page.widget(f"{name}_box", "text", value=view.text, read=following.noting(name))
    )


def test_the_text_typed_last_is_that_of_the_next_page() -> None:
    app = AppTest.from_function(_two_pages).run()
    app.text_input[0].set_value("typed on one").run()
    app.segmented_control[0].set_value("two").run()
    assert app.text_input[0].value == "typed on one"
    app.text_input[0].set_value("typed on two").run()
    assert app.text_input[0].value == "typed on two"
    app.segmented_control[0].set_value("one").run()
    assert app.text_input[0].value == "typed on two"
    app.text_input[0].set_value("more than twenty characters").run()
    app.segmented_control[0].set_value("two").run()
    assert app.text_input[0].value == "typed on two", "too long to follow"


def test_a_link_that_says_which_text_comes_first() -> None:
    app = AppTest.from_function(_two_pages).run()
    app.text_input[0].set_value("typed on one").run()
    app.query_params["two_text"] = "of the link"
    app.segmented_control[0].set_value("two").run()
    assert app.text_input[0].value == "of the link"
