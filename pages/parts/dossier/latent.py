"""One latent's dossier: what the store has at once, the rest at a click."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.dossier.request import PARTS, TITLES
from core.dossier.view import DossierView
from core.view.corpora import corpus_of, parse_corpus
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import action, loading, text_choice
from pages.parts.dossier import beside, chapters, jobs, notes, prose, take_away
from pages.parts.dossier.summary import breath
from pages.parts.latent import elsewhere
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.dossier.request import DossierRequest
    from core.dossier.result import Dossier


_MOST_EXAMPLE = 600
"""Characters of an example that a link takes along."""


def request_of(view: View, selection: Selection, page: DossierView) -> "DossierRequest":
    """What the page is about. Raises ValueError for a text that cannot be had."""
    from core.dossier.plan import request_for

    assert view.entry is not None  # the page has drawn its heading
    corpus = corpus_of(parse_corpus(page.corpus), text_choice.uploads())
    return request_for(
        resources.catalog(),
        view.choices,
        view.entry,
        selection.latent,
        corpus,
        model=selection.model,
        tokens=page.tokens,
    )


def draw(selection: Selection, view: View, page: DossierView) -> None:
    """The whole dossier."""
    from core.dossier.conclude import conclude
    from core.dossier.stored import open_dossier

    store = resources.store()
    [request] = jobs.with_texts([request_of(view, selection, page)])
    dossier = open_dossier(store, request)
    conclusion = conclude(dossier)
    some = len(dossier.missing) < len(PARTS)
    if some:
        breath(conclusion)
    _rest(dossier, request, selection, view, page)
    if not some:
        st.caption(
            "Nothing of this latent is in the store yet. The first dossier of an SAE reads a text "
            f"with it, further ones do not; every part is kept.{_takes(request, PARTS)}"
        )
        return

    def behind(chapter: str) -> None:
        beside.draw(chapter, dossier, request, selection, page)

    states = _states(dossier, selection, view, page)
    chapters.draw(dossier, conclusion, selection, states=states, behind=behind)
    notes.draw(dossier, conclusion)
    prose.draw(dossier, conclusion, selection, page)
    take_away.draw(dossier, conclusion)


def _takes(request: "DossierRequest", parts: Sequence[str]) -> str:
    """How long these parts take, where they were made here before."""
    from core.dossier.run import expected_seconds
    from core.usual_time import in_words

    seconds = expected_seconds(resources.store(), request, parts)
    return "" if seconds is None else f" The last ones took {in_words(seconds)} each."


def _states(
    dossier: "Dossier", selection: Selection, view: View, page: DossierView
) -> dict[str, dict[str, str]]:
    """What links from the sections carry: the text of the dossier, and its strongest example."""
    text = {"corpus": page.corpus, "tokens": str(page.tokens)}
    states = {"latent": text, "autointerp": {"controls": "0", **text}}
    if view.entry is not None:
        states["gradients"] = elsewhere.gradients_state(selection, view.entry)
    if dossier.reads is not None and dossier.reads.top:
        best = dossier.reads.top[0]
        example = "".join(best.tokens[: (best.peak or 0) + 1])[-_MOST_EXAMPLE:]
        if example.strip():
            states.setdefault("gradients", {})["prompt"] = example
    return states


def _rest(
    dossier: "Dossier",
    request: "DossierRequest",
    selection: Selection,
    view: View,
    page: DossierView,
) -> None:
    """The button that computes what is missing, or how far that is."""
    if jobs.is_running(request):
        jobs.draw(request, selection, page, dossier)
        return
    failed = jobs.failed(request)
    if failed is not None:
        st.error(escape_markdown(failed), icon=":material/error:")
    if not dossier.missing and not dossier.not_run and failed is None:
        return
    wanted = dossier.missing or tuple(dossier.not_run)
    names = ", ".join(TITLES[part] for part in wanted)
    entry = view.entry
    published = entry is not None and entry.source == "hub" and not loading.is_loaded(selection)
    # Nothing is fetched without a click: what has to be downloaded is said first.
    if published and entry is not None:
        loading.draw(selection, entry)
        return
    label = "Compute the dossier" if len(wanted) == len(PARTS) else f"Compute the rest: {names}"
    if not dossier.missing:
        label = f"Try again what could not be run: {names}"
    if action.clicked(
        label,
        type="primary" if dossier.missing else "secondary",
        icon=":material/play_arrow:",
        key="dossier_start",
    ):
        jobs.start(request, selection, page)
        st.rerun()
