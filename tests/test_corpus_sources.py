"""Where documents come from, and what is said when they do not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pandas as pd
import pytest

from core.corpus import (
    Corpus,
    Packing,
    default_packing,
    docs_sample,
    file_columns,
    hub_dataset,
    load_token_set,
    pasted_text,
    proposed_dataset,
    text_file,
)
from core.corpus.tokenize import tokenize_documents
from core.jobs.progress import JobCancelled, Progress
from core.models import Model
from core.store import Store
from core.tokens import row_texts
from tests.builders import make_sae, train_tiny_tokenizer
from tests.tokenizer_kinds import EXACT


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents()]


@pytest.mark.slow
def test_docs_sample_is_fixed_and_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.corpus.docs._FILES_AT_ONCE", 10)
    tokenizer = train_tiny_tokenizer()
    corpus, store = docs_sample(["networkx"]), Store(tmp_path)
    assert corpus.max_tokens == 1_200_000
    packing = Packing(context=64, max_tokens=5_000)
    first = load_token_set(corpus, tokenizer, packing, store=store)
    assert first.n_tokens == 5_000
    assert all(name.startswith("networkx: ") for name in first.names)

    def never() -> Iterator[Any]:
        raise AssertionError("read twice")

    unread = Corpus(corpus.name, corpus.digest, never, corpus.max_tokens)
    again = load_token_set(unread, tokenizer, packing, store=store)
    assert again.digest == first.digest
    assert again.names == first.names
    fresh = load_token_set(docs_sample(["networkx"]), tokenizer, packing)
    assert fresh.digest == first.digest
    other = load_token_set(docs_sample(["networkx"], seed=1), tokenizer, packing, store=store)
    assert other.digest != first.digest
    with pytest.raises(ValueError, match="not installed"):
        docs_sample(["no_such_package_here"])


def test_reading_can_be_cancelled() -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        load_token_set(
            pasted_text("words"), train_tiny_tokenizer(), Packing(context=8), progress=progress
        )


def test_pasted_text() -> None:
    corpus = pasted_text("Some words \U0001f642\nand <b>more</b>")
    assert texts(corpus) == ["Some words \U0001f642\nand <b>more</b>"]
    assert corpus.digest != pasted_text("Other words").digest
    for empty in ("", " \n\t", "\u200b\u2028 "):
        with pytest.raises(ValueError, match="empty"):
            pasted_text(empty)
    with pytest.raises(ValueError, match="character 2"):
        pasted_text("ab\ud800c")


def test_jsonl_column(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"id": 1, "text": "one"}, {"id": 2, "text": None}, {"text": "three\u2028still"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("\ufeff" + lines + "\n\n", encoding="utf-8")
    assert texts(text_file(file)) == ["one", "three\u2028still"]
    assert file_columns(file) == ["text"]
    with pytest.raises(ValueError, match=r"no text column 'body'.*text"):
        text_file(file, column="body")
    before = text_file(file).digest
    file.write_text(lines + '\n{"text": "four"}\n')
    assert text_file(file).digest != before


def test_json_list_and_ambiguous_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"q": "one?", "a": "yes"}]))
    with pytest.raises(ValueError, match="several text columns: choose one of q, a"):
        text_file(file)
    assert texts(text_file(file, column="a")) == ["yes"]
    file.write_text('{"text": 1}')
    with pytest.raises(ValueError, match="list of objects"):
        text_file(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "Line 2 .* is not JSON"),
        (b'{"text": "a"}\n["b"]\n', "Line 2 .* is a list"),
        (b'{"text": "\xff\xfe"}\n', "not UTF-8"),
        (b'{"n": 1}\n', "no column with text"),
        (b"", "no column with text"),
        (b"[" * 100_000, "Line 1 .* is not JSON"),
    ],
)
def test_broken_jsonl(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        texts(text_file(file))


def test_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    frame = pd.DataFrame({"n": [1, 2, 3], "content": ["one", None, "three"]})
    frame.to_parquet(file)
    assert texts(text_file(file)) == ["one", "three"]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        text_file(file)


def test_plain_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    paragraphs = ["word " * 500 + "\n\n", "short\n\n", "x" * 450_000]
    file.write_text("".join(paragraphs))
    found = texts(text_file(file))
    assert "".join(found) == "".join(paragraphs)
    assert [len(text) for text in found][:2] == [2502, 200_007]
    with pytest.raises(ValueError, match="no column 'text'"):
        text_file(file, column="text")
    with pytest.raises(ValueError, match="There is no file"):
        text_file(tmp_path / "none.txt")


def test_hub_dataset_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    corpus = hub_dataset("Skylion007/openwebtext")
    assert corpus.max_tokens == 2_000_000
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set; unset it"):
        texts(corpus)
    for name in ("", "a/b/c", "two words"):
        with pytest.raises(ValueError, match="owner/dataset"):
            hub_dataset(name)


def test_hub_dataset_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked: list[Any] = []

    def stream(*arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        asked.append((arguments, options))
        yield {"id": "7", "text": "one"}
        yield {"id": "8", "text": ""}
        yield {"id": "9", "text": "two"}
        raise ConnectionError("cut off\nmore about it")

    monkeypatch.setattr(datasets, "load_dataset", stream)
    documents = hub_dataset("owner/data", config="en").documents()
    assert [next(documents).text, next(documents).text] == ["one", "two"]
    assert asked == [
        (("owner/data", "en"), {"split": "train", "streaming": True, "revision": None})
    ]
    with pytest.raises(ValueError, match=r"could not be read from the hub \(cut off\)"):
        next(documents)
    with pytest.raises(ValueError, match="no column 'body'; it has id, text"):
        texts(hub_dataset("owner/data", column="body"))


@pytest.mark.parametrize(
    ("row", "message"),
    [({"input_ids": [1, 2]}, "token ids instead of text"), ({"n": 1}, "no column with text")],
)
def test_hub_dataset_without_text(
    row: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: iter([row]))
    with pytest.raises(ValueError, match=message):
        texts(hub_dataset("owner/data"))


def test_unknown_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'x/y' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ValueError, match="no dataset 'x/y'"):
        texts(hub_dataset("x/y"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError(
                "Config name is missing.\nPlease pick one among the available configs: "
                "['en', 'de']\nExample of usage:\n\t`load_dataset('x/y', 'en')`"
            ),
            r"add it to the name, as in x/y@PART. Parts are: en, de\.$",
        ),
        (
            ValueError("BuilderConfig 'fr' not found. Available: ['en', 'de']"),
            r"Parts are: en, de\.$",
        ),
        (
            ValueError("Bad split: train. Available splits: ['test']"),
            r"\(Bad split: train. Available splits: \['test'\]\); choose another",
        ),
        (
            FileNotFoundError("Couldn't find any data file at /secret/place/x/y. Couldn't find"),
            r"from the hub \(it could not be reached\)",
        ),
    ],
)
def test_what_a_hub_dataset_lacks_is_said(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ValueError, match=message):
        texts(hub_dataset("x/y"))


def test_a_folder_of_the_server_is_no_hub_dataset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache" / "texts").mkdir(parents=True)
    (tmp_path / "cache" / "texts" / "a.txt").write_text("what somebody else has brought")
    with pytest.raises(ValueError, match="also a folder where the explorer runs"):
        texts(hub_dataset("cache/texts"))


def test_packing_as_the_sae_was_trained(tiny_model: Model) -> None:
    hook = "blocks.1.hook_resid_pre"
    short = make_sae("standard", d_in=32, d_sae=8, hook_name=hook, context_size=16)
    packing = default_packing(tiny_model, short)
    assert (packing.context, packing.prepend_bos, packing.layout) == (16, True, "documents")
    long = make_sae("standard", d_in=32, d_sae=8, hook_name=hook, context_size=4096)
    assert default_packing(tiny_model, long).context == 64
    without = make_sae("standard", d_in=32, d_sae=8, hook_name=hook, prepend_bos=False)
    assert not default_packing(tiny_model, without).prepend_bos
    assert default_packing(tiny_model).context == 64
    with pytest.raises(ValueError, match="at most 64"):
        default_packing(tiny_model, context=65)


def test_proposed_dataset() -> None:
    hook = "blocks.1.hook_resid_pre"
    named = make_sae("standard", d_in=8, d_sae=8, hook_name=hook, dataset_path="owner/data")
    told = make_sae("standard", d_in=8, d_sae=8, hook_name=hook, dataset_path="some docstrings")
    assert proposed_dataset(named) == "owner/data"
    assert proposed_dataset(told) is None


def test_rows_without_text_are_left_out_and_other_values_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    late = '{"id": 1}\n' * 300
    file.write_text(late + '{"text": null}\n{"text": "a"}\n{"text": ""}\n{"other": 1}\n')
    assert [it.text for it in text_file(file).documents()] == ["a"]
    file.write_text('{"text": "a"}\n{"text": ["b"]}\n')
    with pytest.raises(ValueError, match=r"Row 2 of a\.jsonl holds a list in 'text'"):
        list(text_file(file).documents())
    nested = tmp_path / "a.json"
    nested.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not JSON"):
        text_file(nested)


@pytest.mark.parametrize("kind", EXACT)
def test_half_a_surrogate_pair_is_one_strange_character(kind: str, tmp_path: Path) -> None:
    """As in texts that were cut within an emoji; JSON can say it."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a\\ud83d"}\n{"text": "\\ud83d\\ude00 \\udc00b"}\n')
    tokenizer = EXACT[kind]()
    rows = [ids.tolist() for _, ids in tokenize_documents(text_file(file).documents(), tokenizer)]
    assert [row_texts(tokenizer, row).text.strip() for row in rows] == ["a\ufffd", "😀 \ufffdb"]
