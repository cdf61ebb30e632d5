"""The jobs behind the page: the map, what fires where, and descriptions from Neuronpedia."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import resources
from core.view.selection import Selection
from core.view.splitting.members import Member
from pages.parts import weights, work
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.view.splitting.build import MapData, MapRequest
    from core.view.splitting.evidence import Evidence

ROOM = 760


@dataclass(frozen=True)
class Found:
    """What is known of the SAEs on the map besides their directions."""

    evidence: "dict[str, Evidence]"
    """By label; empty until it is measured."""
    pending: bool
    """Whether it is being measured."""


def downloaded(selection: Selection, members: Sequence[Member]) -> bool:
    """Whether all weights are on this machine, or may be fetched; asks before it downloads."""
    entries = [member.entry for member in members]
    return weights.ready(selection.model, entries, then="Download and draw the map")


def finished_map(request: "MapRequest", *, link: str) -> "MapData | None":
    """The map, or None while it is being made, which is then shown in its place."""
    from core.view.splitting.build import build_map

    found = resources.recent_maps().get(request.key)
    if found is not None:
        return found
    engine, store = resources.engine(), resources.store()

    def make(progress: Any) -> None:
        data = build_map(engine, store, resources.worker().run, request, progress)
        resources.recent_maps().put(request.key, data)

    n = sum(member.entry.width or 0 for member in request.members)
    job = work.submitted_again(request.key, f"Map of {n:,} latents", make, link=link)
    job.wait(0.5)  # a map that was made before is there by then
    found = resources.recent_maps().get(request.key)
    if found is None:
        work.shown(job)
        reserve_room(ROOM)
    return found


def found_evidence(request: "MapRequest", *, start: bool, link: str) -> Found:
    """What the latents do on the sample; measured now if `start`, else if it was before."""
    from core.view.splitting.evidence import evidence_key, measure

    key = evidence_key(request.model, request.members, request.corpus)
    found = resources.recent_evidence().get(key)
    if found is not None:
        return Found(found, pending=False)
    job = resources.jobs().get(key)
    if job is None and not start:
        return Found({}, pending=False)
    engine, store = resources.engine(), resources.store()

    def make(progress: Any) -> None:
        evidence = measure(engine, store, request.model, request.members, request.corpus, progress)
        resources.recent_evidence().put(key, evidence)

    job = work.submitted_again(key, "Reading a sample of text", make, link=link)
    job.wait(0.3)
    found = resources.recent_evidence().get(key)
    if found is None:
        work.shown(job)
        return Found({}, pending=not job.state.finished)
    return Found(found, pending=False)
