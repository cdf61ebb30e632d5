"""One text, read once: the index of all latents of one or several SAEs on a corpus.

Dashboards, descriptions and what patch scoping says latents fire on are read from it. The pass is
written down every so often: killed or cancelled, the next one goes on from there. Finished indexes
lie in the store, in parts.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pandas as pd
from sae_lens import SAE

from core.activations.build import BATCH_TOKENS, build_statistics
from core.activations.config import IndexConfig
from core.activations.index import finish
from core.activations.index_figures import remember_index
from core.activations.pass_memory import pass_bytes, pass_groups
from core.activations.reading_time import remember_pass
from core.activations.statistics import LatentStatistics
from core.activations.stored_index import index_key, open_summary, save_index
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.corpus.packing import Packing
from core.corpus.token_set import TokenSet
from core.lease import Lease, SaeName
from core.models.hooks import Model
from core.store import JSON, Key, Store
from core.store.leftovers import sweep
from core.tokens import TokenTexts, vocabulary_texts

CONFIG = IndexConfig()
"""What is kept of every latent."""
_CHECKPOINT_SECONDS = 20.0
_MARK_VERSION = 2


@dataclass(frozen=True)
class IndexRequest:
    """Which SAEs are indexed on which text."""

    model: str
    """Name of the model."""
    saes: tuple[tuple[str, str, str], ...]
    """`(release, sae_id, version)` of each SAE."""
    corpus: Corpus
    """The text."""
    tokens: int
    """How much of it is read."""
    include_bos: bool = False
    """Whether the beginning-of-text token counts."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same share it."""
        parts = [self.model, self.saes, self.corpus.digest, self.tokens, self.include_bos]
        return "latent-index:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    def only(self, number: int = 0) -> "IndexRequest":
        """The same for one of the SAEs."""
        return replace(self, saes=self.saes[number : number + 1])


@dataclass(frozen=True, eq=False)
class OpenIndex:
    """What dashboards of one SAE need besides the part of the index that holds their latent."""

    key: Key
    """Where the index is in the store."""
    token_set: TokenSet
    """The text as it was read."""
    summary: pd.DataFrame
    """`LatentIndex.summary`: a row for each latent."""
    vocabulary: TokenTexts
    """Texts of tokens."""
    special_ids: frozenset[int]
    """Tokens that stand for no text."""
    sae_fingerprint: str
    """Of the SAE's weights: descriptions of the user are kept under it."""
    corpus: str
    """Name of the text."""

    @property
    def n_tokens(self) -> int:
        """Positions that counted."""
        return self.token_set.n_tokens

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return len(self.summary)


@dataclass(frozen=True)
class _Wanted:
    """One SAE of a request."""

    number: int
    """Its place in the lease."""
    packing: Packing
    """How the text is laid out for it."""
    d_sae: int
    """Number of latents."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One pass over a text, for who does it."""

    model: str
    """Name of the model."""
    saes: tuple[SaeName, ...]
    """`(release, sae_id)` of each SAE, in the order of the lease."""
    widths: tuple[int, ...]
    """Number of latents of each."""
    token_set: TokenSet
    """The text."""
    folder: Path
    """Where a pass that is cut off leaves what it did."""


class RowReaders(Protocol):
    """Who does the passes of `make_index`: this process, or workers to whom it is handed out."""

    def statistics(self, lease: Lease, reading: Reading) -> list[LatentStatistics]:
        """What `build_statistics` gives of all rows."""


class _Here:
    """This process."""

    def statistics(self, lease: Lease, reading: Reading) -> list[LatentStatistics]:
        """As `RowReaders.statistics`."""
        return build_statistics(
            lease,
            reading.token_set,
            CONFIG,
            batch_tokens=BATCH_TOKENS,
            checkpoint=reading.folder,
            checkpoint_seconds=_CHECKPOINT_SECONDS,
        )


def was_ever_made(store: Store, request: IndexRequest) -> bool:
    """Whether an index of the request's first SAE was made before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def make_index(
    lease: Lease, store: Store, request: IndexRequest, *, readers: RowReaders | None = None
) -> list[OpenIndex]:
    """The indexes of `request`, whose SAEs the lease has, read from the store or made now.

    SAEs that read rows of the same length share one run of the model. Progress counts tokens.
    `readers` do the passes; this process if None.

    Raises:
        ValueError: a text that cannot be read, an SAE that does not fit, activations that are not
            finite.
        JobCancelled: through the lease's progress; what was done is kept for the next time.
    """
    with lease.turn() as (model, saes):
        vocabulary = vocabulary_texts(model)
        wanted = [_wanted(number, model, sae, request) for number, sae in enumerate(saes)]
    tokenizer = lease.tokenizer
    found: dict[int, OpenIndex] = {}
    for packing in dict.fromkeys(one.packing for one in wanted):
        token_set = load_token_set(
            request.corpus, tokenizer, packing, store=store, progress=lease.progress
        )
        missing = []
        for one in (one for one in wanted if one.packing == packing):
            fingerprint = lease.sae_fingerprints[one.number]
            key = index_key(
                model_fingerprint=lease.model_fingerprint,
                sae_fingerprint=fingerprint,
                tokens_digest=token_set.digest,
                config=CONFIG,
            )
            found[one.number] = OpenIndex(
                key=key,
                token_set=token_set,
                summary=pd.DataFrame(),
                vocabulary=vocabulary,
                special_ids=frozenset(tokenizer.all_special_ids),
                sae_fingerprint=fingerprint,
                corpus=request.corpus.name,
            )
            if open_summary(store, key) is None:
                missing.append(one)
        if missing:
            sweep(store.directory)
        for places in pass_groups([it.d_sae for it in missing], CONFIG):
            group = [missing[it] for it in places]
            began, seen = time.monotonic(), token_set.n_tokens
            with _room(lease, group):
                reading = Reading(
                    model=request.model,
                    saes=tuple(request.saes[one.number][:2] for one in group),
                    widths=tuple(one.d_sae for one in group),
                    token_set=token_set,
                    folder=store.directory / "passes",
                )
                own = lease.with_saes([one.number for one in group])
                states = (readers or _Here()).statistics(own, reading)
                for one, state in zip(group, states, strict=True):
                    index = finish(state, check=lease.progress.check)
                    save_index(store, found[one.number].key, index)
                del states, state, index
            seconds = (time.monotonic() - began) / len(group)
            for one in group:
                remember_pass(store, lease.sae_fingerprints[one.number], seen, seconds)
    opened = []
    for number in range(len(wanted)):
        summary = open_summary(store, found[number].key)
        if summary is None:
            raise ValueError(
                "Neither the disk nor the memory for results that it refuses has room for the "
                "index; free some space and try again."
            )
        opened.append(replace(found[number], summary=summary))
        store.keep(_mark(request.only(number)), {"corpus": request.corpus.name}, JSON)
        remember_index(
            store,
            (request.model, *request.saes[number]),
            summary,
            found[number].n_tokens,
            request.corpus.name,
        )
    return opened


def _wanted(number: int, model: Model, sae: SAE, request: IndexRequest) -> _Wanted:
    packing = default_packing(
        model, sae, max_tokens=request.tokens, include_bos=request.include_bos
    )
    return _Wanted(number, packing, sae.cfg.d_sae)


def _room(lease: Lease, group: Sequence[_Wanted]) -> AbstractContextManager[None]:
    """Memory for one pass."""
    n_latents = sum(it.d_sae for it in group)
    return lease.room(
        pass_bytes([it.d_sae for it in group], CONFIG),
        f"Reading a text with {n_latents:,} latents",
        remedy="choose a narrower SAE" + (", or fewer of them" if len(group) > 1 else ""),
    )


def _mark(request: IndexRequest) -> Key:
    release, sae_id, version = request.saes[0]
    return Key(
        "latent-index-made",
        _MARK_VERSION,
        {
            "model": request.model,
            "sae": [release, sae_id, version],
            "corpus": request.corpus.digest,
            "tokens": request.tokens,
            "bos": request.include_bos,
        },
    )
