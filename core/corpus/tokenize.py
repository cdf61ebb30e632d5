"""Texts to token ids with a model's own tokenizer, in batches."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from core.corpus.bos import bos_id
from core.corpus.documents import Document
from core.jobs.progress import Progress

_BATCH = 128
_BATCH_CHARS = 2_000_000
_HALVES = re.compile("[\ud800-\udfff]")


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: Any,
    *,
    progress: Progress | None = None,
    total: int | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, int32 ids) of each document, without BOS or other special tokens.

    Special tokens' own spelling in a text (`<|endoftext|>`) is read as the plain characters, and
    halves of surrogate pairs, which no tokenizer reads and JSON may hold, as U+FFFD.
    Reports tokens to `progress`, out of `total` where known.
    """
    source, done = iter(documents), 0
    while batch := _next_batch(source):
        if progress is not None:
            progress.update(done, total, unit="tokens", message="Splitting the text into tokens")
        for document, ids in zip(batch, _ids(tokenizer, batch), strict=True):
            done += len(ids)
            yield document.name, np.asarray(ids, dtype=np.int32)


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256, in hex, that tells tokenizers apart by what they do to a text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        text = fast.to_str()
    else:
        text = json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    return hashlib.sha256(f"{bos_id(tokenizer)} {text}".encode()).hexdigest()


def _next_batch(source: Iterator[Document]) -> list[Document]:
    batch, chars = [], 0
    for document in islice(source, _BATCH):
        batch.append(document)
        chars += len(document.text)
        if chars > _BATCH_CHARS:
            break
    return batch


def _ids(tokenizer: Any, batch: list[Document]) -> list[list[int]]:
    texts = [_HALVES.sub("\ufffd", document.text) for document in batch]
    # verbose=False: a text longer than the model's context is cut into rows, so no warning.
    options = {"add_special_tokens": False, "verbose": False, "split_special_tokens": True}
    return tokenizer(texts, **options)["input_ids"]
