"""One pass over a text, and all latents of one or several SAEs can be looked at.

The model runs in leases of about a second, so that other users get their turn; what it found goes
into the index between leases. The pass is written down every so often: killed or cancelled, the
next one goes on from there. Finished indexes lie in the store, in parts.
"""

import copy
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from core.activations import (
    IndexConfig,
    IndexState,
    fingerprint_of_model,
    fingerprint_of_sae,
    finish,
    index_key,
    open_summary,
    save_index,
)
from core.activations.build import BATCH_TOKENS, Pending, run_rows, stretch_rows
from core.activations.checkpoint import Checkpoint
from core.activations.config import CELLS
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.corpus.packing import Packing
from core.corpus.token_set import TokenSet
from core.engine import Engine
from core.jobs.progress import Progress
from core.saes import sae_hook_name
from core.splitting.tokens import VocabularyTexts
from core.store import JSON, Key, Store
from core.view.latent.pieces import partial_bytes
from core.view.measured import remember_index

CONFIG = IndexConfig()
"""What is kept of every latent."""
SaeKey = tuple[str, str]
_STATE_BYTES = 2 << 30
_CHECKPOINT_SECONDS = 20.0
_MARK_VERSION = 1


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
    vocabulary: VocabularyTexts
    """Texts of tokens."""
    special_ids: frozenset[int]
    """Tokens that stand for no text."""
    sae_fingerprint: str
    """Of the SAE's weights: descriptions of the user are kept under it."""
    corpus: str
    """Name of the text."""
    partial: Mapping[int, bytes] = field(default_factory=dict)
    """Bytes of the tokens that are only parts of characters."""

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
    sae: SaeKey
    packing: Packing
    fingerprint: str
    hook: str
    d_sae: int


def was_made(store: Store, request: IndexRequest) -> bool:
    """Whether an index of the request's first SAE was made before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def make_index(
    engine: Engine, store: Store, request: IndexRequest, progress: Progress
) -> list[OpenIndex]:
    """The indexes of `request`, read from the store or made now.

    SAEs that read rows of the same length share one run of the model. Progress counts tokens.

    Raises:
        ValueError: a text that cannot be read, an SAE that does not fit, activations that are not
            finite.
        JobCancelled: through `progress`; what was done is kept for the next time.
    """
    names = [(release, sae_id) for release, sae_id, _ in request.saes]
    with engine.use(request.model, names[:1]) as (model, _):
        tokenizer: Any = copy.deepcopy(model.tokenizer)  # tokenizers are not for several threads
        vocabulary, model_print = VocabularyTexts(model), fingerprint_of_model(model)
    partial = partial_bytes(tokenizer, vocabulary.texts.tolist())
    wanted = [_wanted(engine, request, name, progress) for name in names]
    found: dict[SaeKey, OpenIndex] = {}
    for packing in dict.fromkeys(it.packing for it in wanted):
        token_set = load_token_set(
            request.corpus, tokenizer, packing, store=store, progress=progress
        )
        missing = []
        for it in (it for it in wanted if it.packing == packing):
            key = index_key(
                model_fingerprint=model_print,
                sae_fingerprint=it.fingerprint,
                tokens_digest=token_set.digest,
                config=CONFIG,
            )
            found[it.sae] = OpenIndex(
                key=key,
                token_set=token_set,
                summary=pd.DataFrame(),
                vocabulary=vocabulary,
                special_ids=frozenset(tokenizer.all_special_ids),
                sae_fingerprint=it.fingerprint,
                corpus=request.corpus.name,
                partial=partial,
            )
            if open_summary(store, key) is None:
                missing.append(it)
        for group in _groups(missing):
            states = _pass(engine, store, request.model, group, model_print, token_set, progress)
            for it, state in zip(group, states, strict=True):
                save_index(store, found[it.sae].key, finish(state, check=progress.check))
    opened = []
    for number, name in enumerate(names):
        summary = open_summary(store, found[name].key)
        if summary is None:
            raise ValueError("The disk has no room for the index; free some and try again.")
        opened.append(replace(found[name], summary=summary))
        store.put(_mark(request.only(number)), {"corpus": request.corpus.name}, JSON)
        of = (request.model, *request.saes[number])
        remember_index(store, of, summary, found[name].n_tokens, request.corpus.name)
    return opened


def _wanted(engine: Engine, request: IndexRequest, name: SaeKey, progress: Progress) -> _Wanted:
    progress.check()
    with engine.use(request.model, [name]) as (model, (sae,)):
        packing = default_packing(
            model, sae, max_tokens=request.tokens, include_bos=request.include_bos
        )
        hook = sae_hook_name(sae)
        return _Wanted(name, packing, fingerprint_of_sae(sae), hook, sae.cfg.d_sae)


def _pass(
    engine: Engine,
    store: Store,
    model: str,
    wanted: Sequence[_Wanted],
    model_print: str,
    token_set: TokenSet,
    progress: Progress,
) -> list[IndexState]:
    """States after all rows, equal to those of `core.activations.build_states`."""
    states = [IndexState.empty(CONFIG, d_sae=it.d_sae, context=token_set.context) for it in wanted]
    identity = [model_print, [[it.fingerprint, it.hook] for it in wanted], token_set.digest]
    saved = Checkpoint(store.directory / "passes", identity, CONFIG, token_set.context)
    states = saved.read() or states
    names, written = [it.sae for it in wanted], time.monotonic()
    begin = sum(int(span[1] - span[0]) for span in states[0].rows)
    step = stretch_rows(token_set, BATCH_TOKENS)
    for start in range(begin, token_set.n_rows, step):
        rows = np.arange(start, min(start + step, token_set.n_rows))
        _read(engine, model, names, token_set, rows, states, progress)
        if progress.cancelled or time.monotonic() - written >= _CHECKPOINT_SECONDS:
            saved.write(states)
            written = time.monotonic()
    total = token_set.n_tokens
    progress.update(total, total, unit="tokens", message="Sorting what was found")
    saved.remove()
    return states


def _read(
    engine: Engine,
    model: str,
    names: Sequence[SaeKey],
    token_set: TokenSet,
    rows: np.ndarray,
    states: Sequence[IndexState],
    progress: Progress,
) -> None:
    """One stretch of rows, the longest first so that little padding is run, a lease a batch."""
    done, total = int(token_set.mask[: rows[0]].sum()), token_set.n_tokens
    order = rows[np.argsort(-token_set.lengths[rows], kind="stable")]
    size = max(1, BATCH_TOKENS // token_set.context)
    pending = Pending(states, token_set)
    for at in range(0, len(order), size):
        batch = np.sort(order[at : at + size])
        progress.update(done, total, unit="tokens", message="Reading the text")
        with engine.use(model, names, progress=lambda *_: progress.check()) as (loaded, saes):
            found = run_rows(loaded, saes, token_set, batch, progress=progress)
        pending.add(batch, found)
        done += int(token_set.mask[batch].sum())
    pending.flush()


def _groups(wanted: Sequence[_Wanted]) -> list[list[_Wanted]]:
    """SAEs for one run of the model each: as many as there is memory for what is kept of them."""
    groups: list[list[_Wanted]] = []
    held = 0
    slots = CONFIG.n_top + CELLS * CONFIG.per_quantile
    for it in wanted:
        needed = it.d_sae * slots * (2 * CONFIG.window + 8)
        if not groups or held + needed > _STATE_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(it)
        held += needed
    return groups


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
