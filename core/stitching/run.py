"""A pair of SAEs stitched on a text, measured once and kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from core.asking import check_may_compute
from core.corpus.documents import Corpus
from core.store import JSON, Key, Store

if TYPE_CHECKING:  # they bring torch
    from core.lease import Lease
    from core.stitching.result import Stitching

_VERSION = 1


@dataclass(frozen=True)
class StitchRequest:
    """Which pair is stitched on which text."""

    model: str
    """Name of the model."""
    narrow: tuple[str, str, str]
    """`(release, sae_id, version)` of the narrow SAE."""
    wide: tuple[str, str, str]
    """The same of the wide one."""
    corpus: Corpus = field(compare=False)
    """The text."""
    tokens: int
    """How much of it is read."""

    @property
    def key(self) -> str:
        """Key of the job: all who ask for the same share it."""
        parts = [self.model, self.narrow, self.wide, self.corpus.digest, self.tokens]
        return "stitching:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    @property
    def names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of both, for a lease."""
        return [self.narrow[:2], self.wide[:2]]


def run_stitching(lease: "Lease", store: Store, request: StitchRequest) -> "Stitching":
    """As `core.stitching.stitch`, of a request whose SAEs the lease has; from the store or made.

    Raises ValueError as `stitch`, for a text that cannot be read, and for SAEs that do not agree
    about BOS.
    """
    from core.sae_quality.run import text_of
    from core.saes.writes import WRITES_VERSION
    from core.stitching.measure import StitchConfig, stitch
    from core.stitching.result import Stitching
    from core.store.dataclass_codec import dataclass_codec

    tokens = text_of(lease, store, request.corpus, request.tokens, together=True)
    config = StitchConfig()
    parameters = {
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "tokens": tokens.digest,
        "writes": WRITES_VERSION,
        "config": asdict(config),
    }
    key, codec = Key("stitching", _VERSION, parameters), dataclass_codec(Stitching)
    found = store.get(key, codec)
    if found is None:
        check_may_compute()
        found = stitch(lease, tokens, config=config)
        store.keep(key, found, codec)
    last = {"parameters": parameters, "text": request.corpus.name}
    if store.get(_last_key(request.model, lease.sae_fingerprints), JSON) != last:
        store.keep(_last_key(request.model, lease.sae_fingerprints), last, JSON)
    return found


def last_stitched(
    store: Store, model: str, narrow: str, wide: str
) -> "tuple[Stitching, str] | None":
    """What was found of a pair of SAEs (their fingerprints) last, and the name of the text; None
    where they have not been stitched."""
    from core.stitching.result import Stitching
    from core.store.dataclass_codec import dataclass_codec

    last = store.get(_last_key(model, (narrow, wide)), JSON)
    if not isinstance(last, dict):
        return None
    found = store.get(Key("stitching", _VERSION, last["parameters"]), dataclass_codec(Stitching))
    return None if found is None else (found, str(last["text"]))


def was_stitched(store: Store, request: StitchRequest) -> bool:
    """Whether the request was answered before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def mark_stitched(store: Store, request: StitchRequest) -> None:
    """Note that the request was answered."""
    if not was_stitched(store, request):
        store.keep(_mark(request), {"text": request.corpus.name}, JSON)


def _last_key(model: str, fingerprints: Sequence[str]) -> Key:
    return Key("stitching-last", _VERSION, {"model": model, "saes": list(fingerprints)})


def _mark(request: StitchRequest) -> Key:
    parameters = {
        "model": request.model,
        "saes": [list(request.narrow), list(request.wide)],
        "corpus": request.corpus.digest,
        "tokens": request.tokens,
    }
    return Key("stitching-made", _VERSION, parameters)
