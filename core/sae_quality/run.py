"""Quality of the SAEs of a lease on a text, each measured once and kept."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from core.asking import check_may_compute
from core.corpus.documents import Corpus
from core.store import Key, Store

if TYPE_CHECKING:  # they bring torch
    from core.corpus.token_set import TokenSet
    from core.lease import Lease
    from core.sae_quality.measure import QualityConfig
    from core.sae_quality.result import Quality

_VERSION = 1


@dataclass(frozen=True)
class QualityRequest:
    """Which SAEs are measured on which text."""

    model: str
    """Name of the model."""
    saes: tuple[tuple[str, str, str], ...]
    """`(release, sae_id, version)` of each."""
    corpus: Corpus = field(compare=False)
    """The text."""
    tokens: int
    """How much of it is read."""

    @property
    def key(self) -> str:
        """Key of the job: all who ask for the same share it."""
        parts = [self.model, self.saes, self.corpus.digest, self.tokens]
        return "sae-quality:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    @property
    def names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of each, for a lease."""
        return [(release, sae_id) for release, sae_id, _ in self.saes]


@dataclass(frozen=True, eq=False)
class QualityOnText:
    """What was measured, and on what."""

    quality: "Quality"
    """The figures."""
    text: str
    """Name of the text."""


class Measurers(Protocol):
    """Who measures: this process, or workers to whom it is handed out."""

    def measure(
        self,
        lease: "Lease",
        request: QualityRequest,
        texts: "Mapping[int, TokenSet]",
        config: "QualityConfig",
    ) -> "Iterator[tuple[int, Quality]]":
        """The number of each SAE that has a text here, and its quality on it, as they are done."""


class _Here:
    """This process."""

    def measure(
        self,
        lease: "Lease",
        request: QualityRequest,
        texts: "Mapping[int, TokenSet]",
        config: "QualityConfig",
    ) -> "Iterator[tuple[int, Quality]]":
        """As `Measurers.measure`."""
        from core.sae_quality.measure import measure_quality

        for number, tokens in texts.items():
            yield number, measure_quality(lease.with_saes([number]), tokens, config=config)


def run_quality(
    lease: "Lease", store: Store, request: QualityRequest, *, measurers: Measurers | None = None
) -> "list[QualityOnText]":
    """The quality of each SAE of the lease, read from the store or measured now.

    What was measured is kept at once, so a cancelled run of several goes on where it stopped.
    `measurers` do the work; this process if None.

    Raises as `core.sae_quality.measure_quality`, and ValueError for a text that cannot be read.
    """
    from core.sae_quality.measure import QualityConfig
    from core.store.dataclass_codec import dataclass_codec

    codec, config, n = dataclass_codec(_quality()), QualityConfig(), len(request.saes)
    found: dict[int, Quality] = {}
    missing: dict[int, TokenSet] = {}
    keys, texts = [], dict[str, "TokenSet"]()
    for number in range(n):
        one = lease.with_saes([number])
        tokens = text_of(one, store, request.corpus, request.tokens)
        keys.append(_key(one, tokens, config))
        quality = store.get(keys[-1], codec)
        if quality is None:
            # One object for all SAEs that read the same: each copy is as long as the text.
            missing[number] = texts.setdefault(tokens.digest, tokens)
        else:
            found[number] = quality
    if missing:
        check_may_compute()
        for number, quality in (measurers or _Here()).measure(lease, request, missing, config):
            store.keep(keys[number], quality, codec)
            found[number] = quality
            if n > 1:
                lease.progress.update(len(found), n, unit="SAEs", message="Measuring the SAEs")
    return [QualityOnText(found[number], request.corpus.name) for number in range(n)]


def was_measured(store: Store, request: QualityRequest) -> bool:
    """Whether the request was answered before, judged by names alone."""
    from core.store import JSON

    return store.get(_mark(request), JSON) is not None


def mark_measured(store: Store, request: QualityRequest) -> None:
    """Note that the request was answered."""
    from core.store import JSON

    if not was_measured(store, request):
        store.keep(_mark(request), {"text": request.corpus.name}, JSON)


def text_of(
    lease: "Lease", store: Store, corpus: Corpus, n_tokens: int, *, together: bool = False
) -> "TokenSet":
    """The text as the lease's first SAE reads it; with `together`, as all of its SAEs do.

    Raises ValueError for a text that cannot be read, and SAEs that do not agree about BOS.
    """
    from core.corpus.bos import token_in_front
    from core.corpus.load import default_packing, load_token_set

    with lease.turn() as (model, saes):
        if together:
            token_in_front(model, saes)
        packing = default_packing(model, saes[0], max_tokens=n_tokens)
    return load_token_set(corpus, lease.tokenizer, packing, store=store, progress=lease.progress)


def _quality() -> "type[Quality]":
    from core.sae_quality.result import Quality

    return Quality


def _key(lease: "Lease", tokens: "TokenSet", config: "QualityConfig") -> Key:
    from core.saes.writes import WRITES_VERSION

    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "tokens": tokens.digest,
        "writes": WRITES_VERSION,
        "config": asdict(config),
    }
    return Key("sae-quality", _VERSION, parameters)


def _mark(request: QualityRequest) -> Key:
    saes: Sequence[object] = [list(it) for it in request.saes]
    parameters = {
        "model": request.model,
        "saes": saes,
        "corpus": request.corpus.digest,
        "tokens": request.tokens,
    }
    return Key("sae-quality-made", _VERSION, parameters)
