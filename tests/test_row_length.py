"""Rows need memory by what is in them, and attention is never asked for a model's whole context."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sae_lens import SAE
from transformers import LlamaConfig, LlamaForCausalLM

from core.activations import build_index
from core.autointerp import AutoInterpConfig
from core.autointerp.gather import gather_windows, token_set_batches
from core.corpus import (
    DEFAULT_CONTEXT,
    MOST_CONTEXT,
    Corpus,
    Document,
    Packing,
    TokenSet,
    default_packing,
    load_token_set,
    prompt_for,
    prompt_tokens,
)
from core.corpus.prompt import reading_notes
from core.lease import PlainLease
from core.models import Model, context_length, load_model
from tests.builders import make_sae, train_tiny_tokenizer

LONG = 131_072


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny Llama that takes 131,072 positions, as Llama 3.1 does."""
    folder = tmp_path_factory.mktemp("long") / "model"
    tokenizer = train_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=LONG,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(folder, device="cpu")


def sae_of(context_size: Any = None, **metadata: Any) -> SAE:
    return make_sae(
        "standard",
        d_in=32,
        d_sae=16,
        hook_name="blocks.1.hook_resid_pre",
        context_size=context_size,
        **metadata,
    )


def bytes_of(rows: TokenSet) -> int:
    return sum(array.nbytes for name, array in rows.to_arrays().items() if name != "names")


def documents(lengths: list[int]) -> Corpus:
    texts = [Document(f"d{n}", "é" * (length // 2)) for n, length in enumerate(lengths)]
    return Corpus("made up", "made-up", lambda: iter(texts))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [(None, 1024), (0, 1024), (128, 128), (2048, 2048), (4096, 2048), (LONG, 2048), ("64", 64)],
)
def test_rows_are_never_as_long_as_such_a_model_takes(
    long_model: Model, declared: Any, expected: int
) -> None:
    assert context_length(long_model) == LONG
    assert default_packing(long_model, sae_of(declared)).context == expected
    note = " ".join(reading_notes(long_model, sae_of(declared)))
    if expected == declared or declared == "64":
        assert note == ""
    else:
        assert f"pieces of {expected:,}" in note
        assert (f"pieces of {declared:,}" if declared else "does not say") in note


def test_limits_and_what_the_caller_says(long_model: Model, tiny_model: Model) -> None:
    assert default_packing(long_model).context == DEFAULT_CONTEXT == 1024
    assert MOST_CONTEXT == 2048
    assert default_packing(long_model, context=5000).context == 5000
    assert default_packing(tiny_model, sae_of()).context == 64
    assert default_packing(tiny_model, sae_of(4096)).context == 64
    for wrong in (1, -5, 12.5, True, "many", [8]):
        with pytest.raises(ValueError, match=r"context_size of the SAE is .*; write its number"):
            default_packing(long_model, sae_of(wrong))


@pytest.mark.parametrize("declared", [None, LONG])
def test_memory_is_that_of_the_text(long_model: Model, declared: int | None) -> None:
    """14,800 tokens in 74 documents took 74 · 131,072 positions, or 50 MB."""
    corpus = documents([200] * 74)
    packing = default_packing(long_model, sae_of(declared))
    tracemalloc.start()
    rows = load_token_set(corpus, long_model.tokenizer, packing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.n_tokens == 14_800
    assert rows.tokens.shape == (74, 201)
    assert bytes_of(rows) < 6 * rows.n_tokens
    # While they are made, the tokenizer's own lists count too.
    assert peak < 200 * rows.n_tokens


def test_one_long_document_among_short_ones(long_model: Model) -> None:
    rows = load_token_set(
        documents([20] * 300 + [9000]), long_model.tokenizer, default_packing(long_model, sae_of())
    )
    assert rows.context == 1024
    assert bytes_of(rows) <= 5 * 1024 * rows.n_rows + 64 * rows.n_rows
    assert rows.n_rows == 300 + -(-9000 // 1023)


def test_a_typed_text_is_cut_where_attention_would_grow(long_model: Model) -> None:
    prompt = prompt_for(long_model, [sae_of()], "é" * 3000)
    assert prompt.tokens.shape == (1, MOST_CONTEXT)
    assert prompt.omitted == 6000 - (MOST_CONTEXT - 1)
    whole = prompt_for(long_model, [sae_of()], "é" * 3000, room=LONG)
    assert (whole.tokens.shape, whole.omitted) == ((1, 6001), 0)


def test_narrow_rows_give_what_wide_ones_gave(tiny_model: Model, tiny_sae: SAE) -> None:
    """The same index and windows as from rows padded to the whole context."""
    texts = ["the river runs under the bridges", "Mary and John", "of the city, in 1998"]
    narrow = prompt_tokens(texts, tiny_model.tokenizer, Packing(context=64))
    assert narrow.context == narrow.lengths.max() < 64
    padding = ((0, 0), (0, 64 - narrow.context))
    row, position = np.divmod(narrow.segment_place, narrow.context)
    wide = TokenSet(
        tokens=np.pad(narrow.tokens, padding),
        mask=np.pad(narrow.mask, padding),
        lengths=narrow.lengths,
        segment_place=row * 64 + position,
        segment_length=narrow.segment_length,
        segment_document=narrow.segment_document,
        segment_offset=narrow.segment_offset,
    )
    [a], [b] = (build_index(tiny_model, [tiny_sae], it) for it in (narrow, wide))
    np.testing.assert_array_equal(a.count, b.count)
    np.testing.assert_allclose(a.top_values, b.top_values, atol=1e-5)
    there = a.top_places >= 0
    places = a.top_places[there] // narrow.context * 64 + a.top_places[there] % narrow.context
    np.testing.assert_array_equal(places, b.top_places[there])
    cfg = AutoInterpConfig(latents=[1, 2], buffer=narrow.context, total_tokens=1000)
    for (rows, tokens), (others, padded) in zip(
        token_set_batches(narrow, cfg), token_set_batches(wide, cfg), strict=True
    ):
        assert rows.tolist() == others.tolist()
        # Never narrower than a window.
        assert tokens.shape[1] == 2 * narrow.context + 1
        shared = min(tokens.shape[1], padded.shape[1])
        np.testing.assert_array_equal(tokens[:, :shared], padded[:, :shared])


def test_windows_leave_out_what_the_rows_leave_out(tiny_model: Model, tiny_sae: SAE) -> None:
    """Not every position that holds BOS's number: where it counts as text, it is text."""
    ids = np.full((4, 33), 40)
    ids[:, 16] = 0
    cfg = AutoInterpConfig(latents=list(range(64)), buffer=4, total_tokens=1000)
    for bos, counted in ((0, False), (None, True)):
        token_set = TokenSet.from_rows(ids, bos_id=bos)
        [found] = gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, cfg)
        at_bos = [it.top.acts[it.top.tokens == 0] for it in found.values()]
        assert bool(np.concatenate(at_bos).any()) == counted


def test_where_rows_begin(tiny_model: Model, tmp_path: Path) -> None:
    texts = ["the river runs under", "Mary"]
    for prepend_bos in (True, False):
        packing = Packing(context=6, prepend_bos=prepend_bos)
        rows = prompt_tokens(texts, tiny_model.tokenizer, packing)
        assert {rows.leading(row) for row in range(rows.n_rows)} == {int(prepend_bos)}
        counted = Packing(context=6, prepend_bos=prepend_bos, include_bos=True)
        rows = prompt_tokens(texts, tiny_model.tokenizer, counted)
        assert {rows.leading(row) for row in range(rows.n_rows)} == {int(prepend_bos)}


@pytest.mark.parametrize(
    ("metadata", "fits"),
    [
        ({}, True),
        ({"sequence_separator_token": "bos"}, True),
        ({"sequence_separator_token": 0}, True),
        ({"sequence_separator_token": None}, False),
        ({"sequence_separator_token": 7}, False),
        ({"disable_concat_sequences": True}, False),
        ({"disable_concat_sequences": False, "prepend_bos": False}, True),
        ({"sequence_separator_token": "bos", "prepend_bos": False}, False),
        ({"sequence_separator_token": None, "prepend_bos": False}, True),
    ],
)
def test_windows_are_refused_where_training_joined_text_otherwise(
    tiny_model: Model, metadata: dict[str, Any], fits: bool
) -> None:
    sae = sae_of(**metadata)
    assert default_packing(tiny_model, sae).layout == "documents"
    if fits:
        assert default_packing(tiny_model, sae, layout="windows").layout == "windows"
    else:
        with pytest.raises(ValueError, match="use layout='documents'"):
            default_packing(tiny_model, sae, layout="windows")
