"""The jobs behind the page; each result is shared by all sessions and kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.sae_quality.run import (
    QualityOnText,
    QualityRequest,
    mark_measured,
    run_quality,
    was_measured,
)
from core.sae_quality.view import SaePageView
from core.view.corpora import corpus_of, parse_corpus
from core.view.selection import Selection
from pages.parts import action, job_results, latent_links, tasks, text_choice
from pages.parts.sae import VIEW

if TYPE_CHECKING:
    from core.corpus.documents import Corpus

UNASKED_TOKENS = 200_000
"""The demo reads up to so many tokens without being asked."""
_ASKED = "sae_asked"


def corpus(view: SaePageView) -> "Corpus":
    """The text of the view. Raises ValueError for one that cannot be had."""
    return corpus_of(parse_corpus(view.corpus), text_choice.uploads())


def link(selection: Selection, view: SaePageView, **parameters: str) -> str:
    """The address of a view of the page."""
    return latent_links.address("sae", selection, **VIEW.link.to_parameters(view), **parameters)


def is_demo(selection: Selection) -> bool:
    """Whether the model is small and here, so that work begins unasked."""
    return resources.catalog().model(selection.model).source == "demo"


def wanted(key: str, label: str, *, start: bool, about: str) -> bool:
    """Whether the work of `key` may begin: unasked if `start`, else once it was asked for."""
    asked = st.session_state.setdefault(_ASKED, set())
    if start or key in asked or resources.recent().get(key) is not None:
        return True
    if tasks.found(key) is not None:
        return True
    st.caption(about)
    # One button for each kind of work: it is the same one when a field beside it has changed.
    if not action.clicked(label, type="primary", key=f"sae_go_{key.split(':')[0]}"):
        return False
    asked.add(key)
    return True


def quality(
    selection: Selection, entries: Sequence[SaeEntry], view: SaePageView, *, unasked: bool
) -> list[QualityOnText] | None:
    """The quality of some SAEs, or None while it is measured or waits for a click."""
    request = QualityRequest(
        selection.model,
        tuple((*entry.key, entry.version) for entry in entries),
        corpus(view),
        view.tokens,
    )
    engine, store = resources.engine(), resources.store()
    many = len(entries) > 1
    start = (
        unasked and is_demo(selection) and view.tokens * len(entries) <= UNASKED_TOKENS
    ) or was_measured(store, request)
    what = f"{len(entries)} SAEs" if many else "this SAE"
    if not wanted(
        request.key,
        f"Measure {what}",
        start=start,
        about=f"{view.tokens:,} tokens are read"
        + (" for each SAE; what was measured before is not measured again." if many else "."),
    ):
        return None

    def measure(progress: Any) -> list[QualityOnText]:
        lease = engine.lease(request.model, request.names, progress=progress)
        found = run_quality(lease, store, request)
        mark_measured(store, request)
        return found

    return job_results.recent_result(
        request.key,
        f"Measuring {what} on {view.tokens:,} tokens",
        measure,
        link=link(selection, view),
        room=700,
    )
