"""The jobs behind the page: the map, what fires where, and descriptions from Neuronpedia."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import resources
from core.splitting.members import Member
from core.view.selection import Selection
from pages.parts import weights, work

if TYPE_CHECKING:
    from core.lease import Lease
    from core.splitting.map_data import MapData, MapRequest
    from core.splitting.text_evidence import Evidence

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
    from core.splitting.map_data import build_map

    store = resources.store()
    n = sum(member.entry.width or 0 for member in request.members)
    return work.recent_result(
        request.key,
        f"Map of {n:,} latents",
        lambda progress: build_map(
            _lease(request, progress), store, resources.worker().run, request
        ),
        link=link,
        room=ROOM,
    )


def found_evidence(request: "MapRequest", *, start: bool, link: str) -> Found:
    """What the latents do on the sample; measured now if `start`, else if it was before."""
    from core.splitting.text_evidence import evidence_key, read_sample

    key = evidence_key(request.model, request.members, request.corpus)
    if not start and resources.recent().get(key) is None and resources.jobs().get(key) is None:
        return Found({}, pending=False)
    store, labels = resources.store(), [member.label for member in request.members]
    found = work.recent_result(
        key,
        "Reading a sample of text",
        lambda progress: read_sample(_lease(request, progress), store, labels, request.corpus),
        wait=0.3,
        link=link,
    )
    job = resources.jobs().get(key)
    pending = found is None and job is not None and not job.state.finished
    return Found(found or {}, pending=pending)


def _lease(request: "MapRequest", progress: Any) -> "Lease":
    names = [member.entry.key for member in request.members]
    return resources.engine().lease(request.model, names, progress=progress)
