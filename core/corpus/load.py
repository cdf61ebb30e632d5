"""From a corpus to a `TokenSet`, computed once."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sae_lens import SAE

from core.corpus.bos import bos_id, token_in_front
from core.corpus.documents import Corpus, Document
from core.corpus.packing import Layout, Packing, pack
from core.corpus.row_length import row_length
from core.corpus.token_set import TokenSet
from core.corpus.tokenize import tokenize_documents, tokenizer_digest
from core.jobs.progress import Progress
from core.models.hooks import Model, context_length
from core.store import ARRAYS, Key, Store

_VERSION = 2


def default_packing(
    model: Model,
    sae: SAE | None = None,
    *,
    context: int | None = None,
    layout: Layout = "documents",
    max_tokens: int | None = None,
    include_bos: bool = False,
) -> Packing:
    """Rows as the SAE knows them: of its context size (`row_length`), BOS if it was trained so.

    A `context` that is given may be as long as the model takes: attention needs memory by its
    square.

    Raises:
        ValueError: a context that is more than that, metadata of the SAE that cannot be read, or
            windows for an SAE whose training text was not joined as they are.
    """
    room = context_length(model)
    if context is not None and context > room:
        raise ValueError(f"context is {context}; this model takes at most {room} tokens.")
    front = token_in_front(model, [sae] if sae is not None else [])
    if layout == "windows" and sae is not None:
        _check_windows(model, sae, front)
    return Packing(
        context=context or row_length(model, sae),
        layout=layout,
        prepend_bos=front is not None,
        include_bos=include_bos,
        max_tokens=max_tokens,
    )


def _check_windows(model: Model, sae: SAE, front: int | None) -> None:
    """Windows part documents by what stands in front of rows, as SAE training does by default."""
    metadata = sae.cfg.metadata
    parted: Any = front
    if "sequence_separator_token" in metadata:
        parted = metadata.sequence_separator_token
        if isinstance(parted, str):
            is_bos = parted == "bos"
            parted = (
                bos_id(model.tokenizer)
                if is_bos
                else getattr(model.tokenizer, f"{parted}_token_id", None)
            )
    if metadata.disable_concat_sequences or parted != front:
        raise ValueError(
            "This SAE was trained on documents that were not joined, or were parted by another "
            "token than rows begin with (disable_concat_sequences, sequence_separator_token); "
            "use layout='documents'."
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
        documents = tokenize_documents(
            corpus.documents(), tokenizer, progress=progress, total=limit
        )
        return pack(documents, packing, bos_id=bos_id(tokenizer))

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
    return pack(tokenize_documents(documents, tokenizer), packing, bos_id=bos_id(tokenizer))
