"""From a corpus to a `TokenSet`, computed once."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sae_lens import SAE

from core.corpus.documents import Corpus, Document
from core.corpus.packing import Layout, Packing, pack
from core.corpus.token_set import TokenSet
from core.corpus.tokenize import tokenized, tokenizer_digest
from core.jobs.progress import Progress
from core.models.hooks import Model, context_length
from core.store import ARRAYS, Key, Store

_VERSION = 1


def default_packing(
    model: Model,
    sae: SAE | None = None,
    *,
    context: int | None = None,
    layout: Layout = "documents",
    max_tokens: int | None = None,
    include_bos: bool = False,
) -> Packing:
    """Rows as the SAE knows them: its context size within the model's, BOS if it was trained so.

    Raises ValueError when `context` is more than the model takes.
    """
    room = context_length(model)
    metadata = sae.cfg.metadata if sae is not None else None
    trained = getattr(metadata, "context_size", None)
    if context is not None and context > room:
        raise ValueError(f"context is {context}; this model takes at most {room} tokens.")
    prepend_bos = getattr(metadata, "prepend_bos", None)
    has_bos = getattr(model.tokenizer, "bos_token_id", None) is not None
    return Packing(
        context=context or min(int(trained or room), room),
        layout=layout,
        prepend_bos=has_bos and prepend_bos is not False,
        include_bos=include_bos,
        max_tokens=max_tokens,
    )


def load_token_set(
    corpus: Corpus,
    tokenizer: Any,
    packing: Packing,
    *,
    store: Store | None = None,
    progress: Progress | None = None,
) -> TokenSet:
    """The corpus in rows; read and tokenized once if a store is given.

    `packing.max_tokens` None takes what the corpus proposes. Raises ValueError for a corpus that
    cannot be read or holds no text.
    """
    limit = packing.max_tokens or corpus.max_tokens
    packing = replace(packing, max_tokens=limit)

    def compute() -> TokenSet:
        documents = tokenized(corpus.documents(), tokenizer, progress=progress, total=limit)
        return pack(documents, packing, bos_id=tokenizer.bos_token_id)

    if store is None:
        return compute()
    parameters = {
        "corpus": corpus.digest,
        "tokenizer": tokenizer_digest(tokenizer),
        "packing": asdict(packing),
    }
    arrays = store.get_or_compute(
        Key("token-set", _VERSION, parameters),
        lambda: compute().to_arrays(),
        ARRAYS,
        waiting=progress.check if progress is not None else None,
    )
    return TokenSet.from_arrays(arrays)


def prompt_tokens(
    texts: Sequence[str], tokenizer: Any, packing: Packing, *, names: Sequence[str] = ()
) -> TokenSet:
    """Prompts as rows, one document each; a prompt longer than a row goes on in the next.

    Raises ValueError when no text has a token.
    """
    labels = list(names) or [f"Prompt {number}" for number in range(1, len(texts) + 1)]
    documents = [Document(name, text) for name, text in zip(labels, texts, strict=True)]
    packing = replace(packing, layout="documents", max_tokens=None)
    return pack(tokenized(documents, tokenizer), packing, bos_id=tokenizer.bos_token_id)
