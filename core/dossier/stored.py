"""Sections in the store, each on its own: by content, and found again by names without a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.dossier import belongs, hides, reads, says, works, writes
from core.dossier.beside import open_beside
from core.dossier.kept_steering import load_steering
from core.dossier.others import known_fingerprint
from core.dossier.request import PARTS, DossierRequest
from core.dossier.result import Dossier, Section
from core.dossier.shared import Shared, plain
from core.fit_check.result import FitCheck
from core.store import JSON, Key, Store
from core.store.codecs import Codec
from core.store.dataclass_codec import dataclass_codec

_VERSION = 1
_FIT, _VERSIONS = "fit", "versions"


@dataclass(frozen=True)
class Part:
    """How one section is made and kept."""

    make: Callable[[Shared, int], Section]
    """Makes it."""
    codec: Codec[Any]
    """Writes and reads it."""
    version: int
    """Raised whenever its content changes."""


PART = {
    "reads": Part(reads.read_section, dataclass_codec(reads.Reads), reads.VERSION),
    "writes": Part(writes.write_section, dataclass_codec(writes.Writes), writes.VERSION),
    "says": Part(says.says_section, dataclass_codec(says.Says), says.VERSION),
    "belongs": Part(belongs.belongs_section, dataclass_codec(belongs.Belongs), belongs.VERSION),
    "hides": Part(hides.hides_section, dataclass_codec(hides.Hides), hides.VERSION),
    "works": Part(works.works_section, dataclass_codec(works.Works), works.VERSION),
}
"""The sections, by name."""


def open_dossier(store: Store, request: DossierRequest) -> Dossier:
    """What the store has of a dossier; touches no model."""
    sections: dict[str, Any] = {}
    not_run: dict[str, str] = {}
    for part in PARTS:
        mark = store.get(_mark(request, part), JSON)
        if not isinstance(mark, dict):
            continue
        if "why" in mark:
            not_run[part] = str(mark["why"])
            continue
        sections[part] = store.get(
            Key(f"dossier-{part}", PART[part].version, mark), PART[part].codec
        )
    fit = store.get(_mark(request, _FIT), JSON)
    versions = store.get(_mark(request, _VERSIONS), JSON)
    known = versions if isinstance(versions, dict) else {}
    weights = str(known.get("sae") or known_fingerprint(store, request))
    return Dossier(
        request=request,
        **sections,
        kept=load_steering(store, weights, request.latent),
        fit=FitCheck.from_json(fit) if isinstance(fit, dict) else None,
        beside=open_beside(store, request),
        not_run=not_run,
        versions=known,
    )


def stored_section(store: Store, part: str, content: dict[str, Any]) -> Section | None:
    """A section by its content."""
    found: Section | None = store.get(
        Key(f"dossier-{part}", PART[part].version, content), PART[part].codec
    )
    return found


def keep_section(
    store: Store, request: DossierRequest, part: str, content: dict[str, Any], section: Section
) -> None:
    """Keep a section, and where the request finds it."""
    store.keep(Key(f"dossier-{part}", PART[part].version, content), section, PART[part].codec)
    point_to(store, request, part, content)


def point_to(store: Store, request: DossierRequest, part: str, content: dict[str, Any]) -> None:
    """Note under names and versions of files where a section is by content."""
    store.keep(_mark(request, part), content, JSON)


def note_not_run(store: Store, request: DossierRequest, part: str, why: str) -> None:
    """Note why a part cannot be made; the next run tries again."""
    store.keep(_mark(request, part), {"why": why}, JSON)


def keep_about(
    store: Store, request: DossierRequest, fit: FitCheck | None, versions: dict[str, str]
) -> None:
    """Keep what is said of the SAE's fit, and what the dossier was made with."""
    if fit is not None:
        store.keep(_mark(request, _FIT), fit.to_json(), JSON)
    store.keep(_mark(request, _VERSIONS), versions, JSON)


def content_of(shared: Shared, request: DossierRequest, part: str) -> dict[str, Any]:
    """What a section depends on, by content. Loads what a fingerprint needs."""
    content = {**shared.content, "part": part, "latent": request.latent}
    if part == "says":
        content |= {
            "speaker": shared.fingerprint(request.speaker) if request.speaker else "",
            "layers": list(request.speaker_layers),
            "by": request.speaker_by,
            "texts": plain(request.texts),
        }
    elif part == "belongs" and len(request.family) > 1:
        content["family"] = list(
            shared.lease_of(request.model, request.family_names).sae_fingerprints
        )
    elif part == "works":
        beside = [it[:2] for it in (request.before, request.after) if it is not None]
        names = [request.sae_name, *beside]
        content["beside"] = list(shared.lease_of(request.model, names).sae_fingerprints)
        content["ends"] = [request.before is not None, request.after is not None]
    return content


def _mark(request: DossierRequest, part: str) -> Key:
    version = PART[part].version if part in PART else 1
    return Key("dossier-place", _VERSION, {"request": request.digest(part), "version": version})
