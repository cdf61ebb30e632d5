"""Absorption of concepts in SAEs on a text, found once and kept."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from core.asking import check_may_compute
from core.corpus.documents import Corpus
from core.store import JSON, Key, Store

if TYPE_CHECKING:  # they bring torch
    from core.absorption.analyse import AbsorptionConfig
    from core.absorption.effects import Effects
    from core.absorption.exceptions import Exceptions
    from core.absorption.found import AbsorptionFound
    from core.absorption.result import ConceptResult
    from core.lease import Lease

_VERSION = 3


@dataclass(frozen=True)
class AbsorptionRequest:
    """What is looked for, where."""

    model: str
    """Name of the model."""
    saes: tuple[tuple[str, str, str], ...]
    """`(release, sae_id, version)` of each SAE that is looked at."""
    corpus: Corpus = field(compare=False)
    """The text."""
    tokens: int
    """How much of it is read."""
    source: str = "text"
    """`text`: tokens within the text; `vocabulary`: each token alone; `lists`: two lists of
    texts; `spelling`: words in prompts that ask for their first letter."""
    mine: str = ""
    """Name of the user's sets of tokens, or of the two lists of texts
    (`core.enrichment.user_sets.store_lists`)."""
    share: float = 0.4
    """Least share of the projection that absorbing latents carry."""
    cosine: float = 0.025
    """Least cosine of the absorbing latent with the probe."""
    parent: tuple[str, str, str] | None = None
    """A narrower SAE, `(release, sae_id, version)`, of which a latent is the concept instead of the
    sets of tokens."""
    parent_latent: int = 0
    """That latent."""

    @property
    def key(self) -> str:
        """Key of the job: all who ask for the same share it."""
        plain = {name: value for name, value in vars(self).items() if name != "corpus"}
        text = json.dumps([plain, self.corpus.digest], sort_keys=True)
        return "absorption:" + hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of all SAEs, the parent last, for a lease."""
        parents = [self.parent] if self.parent is not None else []
        return [(release, sae_id) for release, sae_id, _ in (*self.saes, *parents)]


def run_absorption(
    lease: "Lease", store: Store, request: AbsorptionRequest
) -> "list[AbsorptionFound]":
    """Absorption in each SAE of the request, whose SAEs the lease has (`request.names`).

    What was found is kept at once, SAE by SAE. Raises ValueError as `absorption_of`, for a text
    that cannot be read, and for sets that are not on this server.
    """
    from core.absorption.analyse import absorption_of, config_of
    from core.absorption.found import AbsorptionFound
    from core.absorption.reading import TEXT_OF, find_concepts, read_sites
    from core.store.dataclass_codec import dataclass_codec

    codec = dataclass_codec(AbsorptionFound)
    config, found = config_of(share=request.share, cosine=request.cosine), []
    for number in range(len(request.saes)):
        own = [number] if request.parent is None else [number, len(request.saes)]
        one = lease.with_saes(own)
        key = _key(one, store, request, config, "absorption")
        known = store.get(key, codec)
        if known is None:
            check_may_compute()
            sites, texts, note = read_sites(one, store, request)
            concepts, left_out = find_concepts(one, store, request, sites)
            if not concepts and left_out:
                raise ValueError(next(iter(left_out.values())))
            tell = partial(_tell, lease, len(concepts))
            results = absorption_of(sites, concepts, config=config, check=tell)
            known = AbsorptionFound(
                tuple(
                    replace(it, tokens=it.tokens.assign(text=texts[it.tokens["token"]]))
                    for it in results
                ),
                left_out,
                len(sites.token),
                sites.acts.shape[1],
                sites.l0,
                TEXT_OF.get(request.source, request.corpus.name),
                sites.unit,
                note,
            )
            store.keep(key, known, codec)
        found.append(known)
    return found


def run_exceptions(
    lease: "Lease", store: Store, request: AbsorptionRequest, latent: int
) -> "Exceptions":
    """Exceptions of a latent of the request's first SAE; raises as `exceptions_of`."""
    from core.absorption.analyse import config_of
    from core.absorption.exceptions import Exceptions, exceptions_of
    from core.absorption.reading import find_concepts, read_sites
    from core.store.dataclass_codec import dataclass_codec

    config = config_of(share=request.share, cosine=request.cosine)
    codec = dataclass_codec(Exceptions)
    key = _key(lease, store, request, config, "absorption-exceptions", latent=latent)
    found = store.get(key, codec)
    if found is None:
        check_may_compute()
        sites, texts, _ = read_sites(lease, store, request)
        concepts, _ = find_concepts(lease, store, replace(request, parent=None), sites)
        lease.progress.update(0, None, message="Comparing the latent with the concepts")
        found = exceptions_of(sites, latent, concepts, thresholds=config.thresholds)
        found = replace(found, tokens=found.tokens.assign(text=texts[found.tokens["token"]]))
        store.keep(key, found, codec)
    return found


def run_effects(
    lease: "Lease", store: Store, request: AbsorptionRequest, result: "ConceptResult"
) -> "Effects":
    """The absorbing latents of a concept of the request's first SAE, checked by integrated
    gradients at some of the positions that they absorb. Raises ValueError as `effects_of`."""
    from core.absorption.effects import Effects, effects_of
    from core.absorption.reading import rows_of
    from core.store.dataclass_codec import dataclass_codec

    codec = dataclass_codec(Effects)
    places = {
        int(latent): [int(it) for it in some["place"]]
        for latent, some in result.examples.groupby("latent", sort=False)
    }
    parameters = {
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "places": [[latent, *some] for latent, some in places.items()],
        "source": request.source,
    }
    check_may_compute()
    tokens, spelling = rows_of(lease, store, request)
    key = Key("absorption-effects", _VERSION, {**parameters, "rows": tokens.digest})
    return store.get_or_compute(
        key,
        lambda: effects_of(lease, tokens, places, spelling=spelling),
        codec,
        waiting=lease.progress.check,
    )


def _tell(lease: "Lease", whole: int, n: int) -> None:
    lease.progress.update(n, whole, unit="concepts", message="Looking for absorption")


def was_found(store: Store, request: AbsorptionRequest) -> bool:
    """Whether the request was answered before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def mark_found(store: Store, request: AbsorptionRequest) -> None:
    """Note that the request was answered."""
    if not was_found(store, request):
        store.keep(_mark(request), {"text": request.corpus.name}, JSON)


def _mark(request: AbsorptionRequest) -> Key:
    return Key("absorption-made", _VERSION, {"request": request.key})


def _key(
    lease: "Lease",
    store: Store,
    request: AbsorptionRequest,
    config: "AbsorptionConfig",
    kind: str,
    **others: int,
) -> Key:
    from core.enrichment.run import find_sets
    from core.sae_quality.run import text_of
    from core.saes.writes import WRITES_VERSION

    of_text, lists = request.source == "text", request.source == "lists"
    text = (
        text_of(lease, store, request.corpus, request.tokens, together=True).digest
        if of_text
        else ""
    )
    parameters = {
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "source": request.source,
        "text": text,
        "sets": request.mine if lists else find_sets(lease, store, request.mine).sets.digest,
        "parent": None if request.parent is None else request.parent_latent,
        "config": asdict(config),
        "writes": WRITES_VERSION,
        **others,
    }
    return Key(kind, _VERSION, parameters)
