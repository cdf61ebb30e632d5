"""What others say of a latent: the reader, a chat model, a published list."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.autointerp.record import Record, records_of
from core.descriptions.saved import load_user_descriptions
from core.descriptions.table import Descriptions
from core.dossier.request import DossierRequest
from core.store import JSON, Key, Store

_VERSION = 1
_MOST_CHATS = 3
_MOST_LATENTS = 1 << 21


@dataclass(frozen=True)
class Others:
    """What is said of all latents of an SAE, read once for as many of them as are asked about."""

    own: Descriptions | None
    """The readers' own descriptions."""
    published: Descriptions | None
    """Those of a published list."""
    chats: Mapping[int, tuple[tuple[str, str], ...]]
    """By latent, `(name, text)` of the latest chat models."""

    def of(self, latent: int) -> tuple[tuple[str, str], ...]:
        """`(source, text)` of everybody but the offline describer and the model itself."""
        found = [
            (source, str(given.texts[latent]))
            for source, given in (("yours", self.own), ("neuronpedia", self.published))
            if given is not None and latent < given.d_sae and given.texts[latent]
        ]
        return (*found, *self.chats.get(latent, ()))


def others_of(
    store: Store, sae_fingerprint: str, *, d_sae: int | None, published: Descriptions | None = None
) -> Others:
    """What was said of the SAE with these weights; `d_sae` is its number of latents, if known."""
    return Others(
        _own(store, sae_fingerprint, d_sae), published, _chats(records_of(store, sae_fingerprint))
    )


def with_others(
    store: Store,
    requests: Sequence[DossierRequest],
    *,
    d_sae: int | None,
    published: Descriptions | None = None,
) -> list[DossierRequest]:
    """Requests on one SAE with what others say of their latents, if its weights are known."""
    fingerprint = known_fingerprint(store, requests[0])
    if not fingerprint:
        return list(requests)
    others = others_of(store, fingerprint, d_sae=d_sae, published=published)
    return [it.of(it.latent, others.of(it.latent)) for it in requests]


def note_fingerprint(store: Store, request: DossierRequest, fingerprint: str) -> None:
    """Note which weights the SAE of a request has, to be known without loading it."""
    store.keep(_key(request), fingerprint, JSON)


def known_fingerprint(store: Store, request: DossierRequest) -> str:
    """What `note_fingerprint` noted for these files; empty before that."""
    found = store.get(_key(request), JSON)
    return found if isinstance(found, str) else ""


def _own(store: Store, fingerprint: str, d_sae: int | None) -> Descriptions | None:
    try:
        return load_user_descriptions(store, fingerprint, d_sae or _MOST_LATENTS)
    except ValueError:  # of more latents than are known of here
        return load_user_descriptions(store, fingerprint, _MOST_LATENTS)


def _chats(records: Iterable[Record]) -> dict[int, tuple[tuple[str, str], ...]]:
    found: dict[int, dict[str, str]] = {}
    for record in records:
        if record["settings"].get("explainer") != "chat":
            continue
        name = f"chat model {record.get('chat_model') or ''}".strip()
        for latent, result in record["results"].items():
            text, said = (result or {}).get("explanation"), found.setdefault(int(latent), {})
            if text and name not in said and len(said) < _MOST_CHATS:
                said[name] = str(text)
    return {latent: tuple(said.items()) for latent, said in found.items()}


def _key(request: DossierRequest) -> Key:
    return Key("dossier-sae", _VERSION, {"model": request.model, "sae": list(request.sae)})
