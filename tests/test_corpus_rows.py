"""Documents become rows and positions lead back to them."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens.tokenization_and_batching import concat_and_batch_sequences

from core.corpus import Packing, TokenSet, pack, prompt_tokens, tokenize_documents, tokenizer_digest
from core.corpus.documents import Document
from core.corpus.packing import Layout
from tests.builders import train_tiny_tokenizer

BOS = 0
documents_of_ids = st.lists(
    st.lists(st.integers(4, 50), min_size=0, max_size=25), min_size=1, max_size=8
).filter(any)


def packed(documents: list[list[int]], **options: object) -> TokenSet:
    named = [(f"d{n}", np.array(ids, dtype=np.int32)) for n, ids in enumerate(documents)]
    return pack(named, Packing(**options), bos_id=BOS)  # type: ignore[arg-type]


@settings(max_examples=80)
@given(
    documents=documents_of_ids,
    context=st.integers(2, 12),
    layout=st.sampled_from(["documents", "windows"]),
    prepend_bos=st.booleans(),
    include_bos=st.booleans(),
)
def test_every_token_is_laid_out_once_and_found_again(
    documents: list[list[int]], context: int, layout: Layout, prepend_bos: bool, include_bos: bool
) -> None:
    rows = packed(
        documents,
        context=context,
        layout=layout,
        prepend_bos=prepend_bos,
        include_bos=include_bos,
    )
    documents = [ids for ids in documents if ids]
    # Rows are no wider than what is in them.
    assert rows.context == rows.lengths.max() <= context
    context = rows.context
    places = np.arange(rows.tokens.size)
    document, offset = rows.locate(places)
    text = document >= 0
    back = list(zip(document[text].tolist(), offset[text].tolist(), strict=True))
    assert back == [(d, o) for d, ids in enumerate(documents) for o in range(len(ids))]
    flat = rows.tokens.reshape(-1)
    assert [documents[d][o] for d, o in back] == flat[text].tolist()
    real = (np.arange(context) < rows.lengths[:, None]).reshape(-1)
    assert (flat[real & ~text] == BOS).all()
    assert prepend_bos or (real == text).all()
    expected = real if include_bos else text
    np.testing.assert_array_equal(rows.mask.reshape(-1), expected)
    if prepend_bos:
        assert (rows.tokens[:, 0] == BOS).all()
    if layout == "documents":
        for row in range(rows.n_rows):
            inside = document[row * context : (row + 1) * context]
            assert len(set(inside[inside >= 0].tolist())) == 1


@settings(max_examples=80)
@given(documents=documents_of_ids, context=st.integers(2, 12), prepend_bos=st.booleans())
def test_windows_are_those_of_sae_training(
    documents: list[list[int]], context: int, prepend_bos: bool
) -> None:
    rows = packed(documents, context=context, layout="windows", prepend_bos=prepend_bos)
    bos = BOS if prepend_bos else None
    theirs = list(
        concat_and_batch_sequences(
            iter([torch.tensor(ids) for ids in documents if ids]),
            context,
            begin_batch_token_id=bos,
            sequence_separator_token_id=bos,
        )
    )
    whole = rows.tokens[: len(theirs)]
    assert [row.tolist() for row in theirs] == whole.tolist()
    # They drop what does not fill a row; here it is one more, padded.
    assert rows.n_rows - len(theirs) in (0, 1)
    assert (rows.lengths[: len(theirs)] == context).all()


def test_max_tokens_ends_an_endless_stream() -> None:
    def endless() -> Iterator[tuple[str, np.ndarray]]:
        for number in itertools.count():
            assert number < 10
            yield f"d{number}", np.full(7, 5)

    rows = pack(endless(), Packing(context=5, max_tokens=24), bos_id=BOS)
    assert rows.n_tokens == 24
    assert rows.names == ("d0", "d1", "d2", "d3")


def test_windows_stay_in_the_row_and_out_of_padding() -> None:
    rows = packed([[10, 11, 12], [20, 21, 22, 23, 24, 25]], context=5)
    assert rows.tokens.tolist()[0] == [0, 10, 11, 12, 0]
    assert rows.lengths.tolist() == [4, 5, 3]
    found = rows.windows(np.array([3, 5, -1]), 1, 2)
    assert found.tolist() == [[11, 12, -1, -1], [-1, 0, 20, 21], [-1, -1, -1, -1]]
    assert found.dtype == np.int32
    with pytest.raises(ValueError, match="before -1"):
        rows.windows(np.array([3]), -1, 2)


def test_rows_given_as_they_are() -> None:
    tokens = torch.tensor([[0, 7, 8, 1, 1], [0, 9, 0, 9, 9], [7, 1, 7, 7, 1]])
    rows = TokenSet.from_rows(tokens, bos_id=0, pad_id=1)
    assert rows.lengths.tolist() == [3, 5, 4]
    assert rows.mask.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 0]]
    assert rows.locate(np.array([0, 1, 2, 3, 10]))[1].tolist() == [-1, 0, 1, -1, 0]
    # GPT-2 pads with its BOS.
    same = TokenSet.from_rows(torch.tensor([[0, 7, 0, 0], [0, 0, 0, 0]]), bos_id=0, pad_id=0)
    assert same.lengths.tolist() == [2, 1]
    assert same.mask.sum() == 1
    for wrong in (torch.zeros(3), torch.zeros(0, 3, dtype=torch.long), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="token ids"):
            TokenSet.from_rows(wrong)


def test_part_of_a_set_and_round_trip() -> None:
    rows = packed([[10, 11, 12], [20, 21, 22, 23, 24, 25], [30]], context=5)
    part = rows.rows(1, 3)
    document, offset = part.locate(np.arange(10))
    assert document.tolist() == [-1, 1, 1, 1, 1, -1, 1, 1, -1, -1]
    assert offset.tolist() == [-1, 0, 1, 2, 3, -1, 4, 5, -1, -1]
    again = TokenSet.from_arrays(rows.to_arrays())
    assert again.names == rows.names
    assert again.digest == rows.digest != part.digest


def test_what_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="holds no text"):
        packed([[], []], context=5)
    with pytest.raises(ValueError, match="no BOS"):
        pack([("d", np.array([5]))], Packing(context=5), bos_id=None)
    with pytest.raises(ValueError, match="context is 1"):
        Packing(context=1)
    with pytest.raises(ValueError, match="layout"):
        Packing(context=5, layout="rows")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "The Eiffel tower",
        "naïve café 🙂👩‍👩‍👧 مرحبا",
        "a\x00b\r\n\t<script>",
        "<|endoftext|> spelled out",
    ],
)
def test_prompts_decode_to_themselves(text: str) -> None:
    tokenizer = train_tiny_tokenizer()
    rows = prompt_tokens([text, "other"], tokenizer, Packing(context=8))
    document, _ = rows.locate(np.arange(rows.tokens.size))
    ids = rows.tokens.reshape(-1)[document == 0]
    assert tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False) == text
    # A special token's spelling in a text is text: it must not become a BOS.
    assert (ids != tokenizer.bos_token_id).all()
    assert rows.names == ("Prompt 1", "Prompt 2")


def test_tokenizing_in_batches_is_tokenizing_each() -> None:
    tokenizer = train_tiny_tokenizer()
    documents = [Document(str(n), "word " * (n % 7) + str(n)) for n in range(300)]
    found = list(tokenize_documents(documents, tokenizer))
    assert [name for name, _ in found] == [document.name for document in documents]
    for (_, ids), document in zip(found, documents, strict=True):
        assert ids.tolist() == tokenizer(document.text, add_special_tokens=False)["input_ids"]
    other = train_tiny_tokenizer(290)
    assert tokenizer_digest(tokenizer) != tokenizer_digest(other)
    assert tokenizer_digest(tokenizer) == tokenizer_digest(train_tiny_tokenizer())
