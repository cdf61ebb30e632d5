"""The jobs behind the page: the map, what fires where, and descriptions from Neuronpedia."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.splitting.members import Member
from core.view.selection import Selection
from pages.parts import job_results, tasks, weights

if TYPE_CHECKING:
    import numpy as np

    from core.lease import Lease
    from core.splitting.map_data import MapData, MapRequest
    from core.splitting.text_evidence import Evidence

ROOM = 760
_PLACE, _ASKED = "map_last", "map_asked"


@dataclass(frozen=True)
class Found:
    """What is known of the SAEs on the map besides their directions."""

    evidence: "dict[str, Evidence]"
    """By label; empty until it is measured."""
    pending: bool
    """Whether it is being measured."""


def weights_ready(selection: Selection, members: Sequence[Member]) -> bool:
    """Whether all weights are on this machine, or may be fetched; asks before it downloads."""
    entries = [member.entry for member in members]
    return weights.ready(selection.model, entries, then="Download and draw the map")


def finished_map(request: "MapRequest", *, link: str) -> job_results.Kept:
    """The map; while it is being made, which is then shown, the one before it at this site.

    One that takes minutes is made at a click.
    """
    from core.splitting.map_data import build_map
    from core.splitting.map_offer import n_latents, note_made

    store = resources.store()
    first = request.members[0].entry
    subject = (request.model, first.hook_name, first.head, first.kind)
    if not _may_begin(request, link):
        return job_results.last_one(request, place=_PLACE, subject=subject)

    def work(progress: Any) -> "MapData":
        found = build_map(_lease(request, progress), store, resources.worker().run, request)
        note_made(store, request)
        return found

    return job_results.recent_or_last(
        request.key,
        f"Map of {n_latents(request):,} latents",
        work,
        asked=request,
        place=_PLACE,
        subject=subject,
        link=link,
        room=ROOM,
    )


def _may_begin(request: "MapRequest", link: str) -> bool:
    """Whether the map is there, small or asked for; else says how long it takes, and asks."""
    from core.splitting import map_offer
    from core.usual_time import in_words

    store, key = resources.store(), request.key
    known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if known or st.session_state.get(_ASKED) == key or not map_offer.must_ask(store, request):
        return True
    n = map_offer.n_latents(request)
    with st.container(border=True):
        st.markdown(f"**A map of {n:,} latents takes a while, and is made when you ask for it**")
        said, button = st.container(), st.container()
        button.button(
            "Make the map",
            type="primary",
            icon=":material/play_arrow:",
            key="map_make",
            on_click=lambda: st.session_state.update({_ASKED: key}),
        )
        seconds: float | None = job_results.result(
            f"{key}:seconds",
            f"How long a map of {n:,} latents takes",
            lambda progress: map_offer.seconds_needed(
                _lease(request, progress), store, resources.worker().run, request
            ),
            link=link,
        )
        if seconds is None:
            said.caption("How long it takes on this machine is being measured on a part of it.")
        else:
            text = " It reads a sample of text first, to find dead latents."
            said.caption(
                f"It takes {in_words(seconds)} on this machine, as a part of it tells; what is "
                "done is kept, also if you stop it, and a finished map opens unasked."
                f"{text if request.hide_dead else ''}"
            )
    return False


def found_evidence(request: "MapRequest", *, start: bool, link: str) -> Found:
    """What the latents do on the sample; measured now if `start`, else if it was before."""
    from core.splitting.text_evidence import evidence_key, read_sample

    key = evidence_key(request.model, request.members, request.corpus)
    if not start and resources.recent().get(key) is None and tasks.found(key) is None:
        return Found({}, pending=False)
    store, labels = resources.store(), [member.label for member in request.members]
    found = job_results.recent_result(
        key,
        "Reading a sample of text",
        lambda progress: read_sample(_lease(request, progress), store, labels, request.corpus),
        wait=0.3,
        link=link,
    )
    job = tasks.found(key)
    pending = found is None and job is not None and not job.state.finished
    return Found(found or {}, pending=pending)


def found_scores(request: "MapRequest", kind: str, *, link: str) -> "dict[str, np.ndarray]":
    """Scores for steering of the latents, by label: made at a click, which is offered; `kind` is
    `output` or `input`, which needs a text to be read with every SAE."""
    from core.splitting.scores import ABOUT, SPLIT_TOKENS, score_of, scores_key

    key = scores_key(request.model, request.members, request.corpus, kind)
    known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if not known and st.session_state.get("map_scores_asked") != key:
        with st.container(horizontal=True, vertical_alignment="center"):
            reads = f" {SPLIT_TOKENS:,} tokens are read with each SAE." if kind == "input" else ""
            st.caption(f"{ABOUT[kind]}{reads} Kept once made; widths are shown until then.")
            st.button(
                "Score the latents of these SAEs",
                icon=":material/speed:",
                key="map_score",
                on_click=lambda: st.session_state.update(map_scores_asked=key),
            )
        return {}
    store = resources.store()
    found: dict[str, np.ndarray] | None = job_results.recent_result(
        key,
        f"{kind.capitalize()} scores of the map",
        lambda progress: score_of(_lease(request, progress), store, request, kind),
        link=link,
    )
    return found or {}


def _lease(request: "MapRequest", progress: Any) -> "Lease":
    names = [member.entry.key for member in request.members]
    return resources.engine().lease(request.model, names, progress=progress)
