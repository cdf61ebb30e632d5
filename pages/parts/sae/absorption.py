"""Absorption: where a latent should fire and does not, which other fires instead?"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.absorption.run import (
    AbsorptionRequest,
    mark_found,
    run_absorption,
    run_exceptions,
    was_found,
)
from core.absorption.view import LINK, SOURCES, AbsorptionView
from core.catalog.entries import SaeEntry
from core.sae_quality.view import SaePageView
from core.splitting.members import members_of
from core.view.choices import Choices
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, job_results, weights
from pages.parts.page_state import PageState
from pages.parts.sae import absorbed, jobs, uploads
from pages.parts.sae.compare import entries_of

if TYPE_CHECKING:
    from core.absorption.exceptions import Exceptions
    from core.absorption.found import AbsorptionFound

STATE = PageState("absorption", LINK)
_UNASKED = 60_000
_ABOUT = {
    "vocabulary": "Every token alone is run through the model.",
    "lists": "The texts of both lists are run through the model.",
    "spelling": "The model is asked for the first letter of words; only where it answers, "
    "absorption is looked for.",
}


def draw(selection: Selection, entry: SaeEntry, view: SaePageView, choices: Choices) -> None:
    """The section; the selection must be loaded."""
    state = STATE.begin()
    for problem in STATE.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    st.caption(
        "A concept, such as “starts with a capital”, has a direction in the model (a probe) and "
        "latents of its own in the SAE. Where the probe says yes, none of them fires, and one "
        "other latent carries the direction instead, the concept has been absorbed there."
    )
    request = _request(selection, entry, view, choices, state)
    if request is None:
        return
    found = _found(selection, request, view, state, one=True)
    if found is not None:
        _left_out(found[0])
        absorbed.draw(selection, entry, found[0], request, state, STATE)
    with errors.shown_plainly():
        _exceptions(selection, entry, request, view, state)
    with errors.shown_plainly():
        _widths(selection, entry, request, view, choices, state)


def _request(
    selection: Selection,
    entry: SaeEntry,
    view: SaePageView,
    choices: Choices,
    state: AbsorptionView,
) -> AbsorptionRequest | None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.segmented_control(
            "Concepts",
            list(SOURCES),
            required=True,
            format_func=SOURCES.__getitem__,
            **STATE.choices("absorption_source", "source", concept=""),
        )
        with st.popover("Thresholds", icon=":material/tune:"):
            st.slider(
                "Least share of the projection that the absorbing latents carry",
                0.05,
                1.0,
                step=0.05,
                **STATE.widget("absorption_share", "share", value=max(0.05, state.share)),
            )
            st.slider(
                "Least cosine of the absorbing latent with the probe",
                0.0,
                0.5,
                step=0.025,
                **STATE.widget(
                    "absorption_cosine", "cosine", value=min(0.5, max(0.0, state.cosine))
                ),
            )
            st.caption("SAEBench takes 0.4 and 0.025.")
        if state.source in ("text", "vocabulary"):
            uploads.sets(state, STATE)
        elif state.source == "lists":
            uploads.lists(STATE)
    if state.source == "lists" and not state.lists:
        st.info(
            "Upload a file with two lists of 20 texts or more: those that have the concept first."
        )
        return None
    request = AbsorptionRequest(
        selection.model,
        ((*entry.key, entry.version),),
        jobs.corpus(view),
        view.tokens,
        source="text" if state.source == "latent" else state.source,
        mine=state.lists if state.source == "lists" else state.mine,
        share=state.share,
        cosine=state.cosine,
    )
    return _with_parent(request, selection, entry, choices, state)


def _with_parent(
    request: AbsorptionRequest,
    selection: Selection,
    entry: SaeEntry,
    choices: Choices,
    state: AbsorptionView,
) -> AbsorptionRequest | None:
    if state.source != "latent":
        return request
    narrower = [
        it
        for it in members_of(choices, selection, entry)
        if (it.entry.width or 0) < (entry.width or 0)
    ]
    if not narrower:
        st.info(
            "There is no narrower SAE of this site whose latents could be concepts; choose a wider "
            "SAE of a family on the left."
        )
        return None
    labels = [it.label for it in narrower]
    parent = state.parent if state.parent in labels else labels[-1]
    left, right = st.columns([3, 1])
    titles = {it.label: it.title for it in narrower}
    with left:
        st.selectbox(
            "Narrower SAE",
            format_func=titles.__getitem__,
            **STATE.menu("absorption_parent", "parent", labels, value=parent, parent_latent=0),
        )
    chosen = next(it.entry for it in narrower if it.label == parent)
    highest = (chosen.width or 1) - 1
    with right:
        st.number_input(
            "Its latent",
            0,
            highest,
            **STATE.widget(
                "absorption_parent_latent", "parent_latent", value=min(highest, state.parent_latent)
            ),
        )
    if not weights.ready(selection.model, [entry, chosen], then="Download and look"):
        return None
    return replace(
        request,
        parent=(*chosen.key, chosen.version),
        parent_latent=min(highest, state.parent_latent),
    )


def _found(
    selection: Selection,
    request: AbsorptionRequest,
    view: SaePageView,
    state: AbsorptionView,
    *,
    one: bool,
) -> "list[AbsorptionFound] | None":
    engine, store = resources.engine(), resources.store()
    small = jobs.is_demo(selection) and view.tokens <= _UNASKED
    many = len(request.saes)
    if not jobs.wanted(
        request.key,
        "Look for absorption" if one else f"Look for it in all {many} widths",
        start=(one and small) or was_found(store, request),
        about=_ABOUT[request.source]
        if request.source in _ABOUT
        else f"{view.tokens:,} tokens are read"
        + (" for each SAE; what was found before is kept." if many > 1 else "."),
    ):
        return None

    def look(progress: Any) -> "list[AbsorptionFound]":
        lease = engine.lease(request.model, request.names, progress=progress)
        found = run_absorption(lease, store, request)
        mark_found(store, request)
        return found

    return job_results.recent_result(
        request.key,
        "Looking for absorption" + (f" in {many} SAEs" if many > 1 else ""),
        look,
        link=jobs.link(selection, view, **LINK.to_parameters(state)),
        room=600 if one else 340,
    )


def _left_out(found: "AbsorptionFound") -> None:
    if found.left_out:
        with st.popover(f"{len(found.left_out)} sets are left out"):
            for sentence in found.left_out.values():
                st.caption(escape_markdown(sentence))


def _exceptions(
    selection: Selection,
    entry: SaeEntry,
    request: AbsorptionRequest,
    view: SaePageView,
    state: AbsorptionView,
) -> None:
    st.subheader(f"Exceptions of latent {selection.latent}")
    st.toggle(
        "Where should this latent fire and does not, and which fires instead?",
        **STATE.widget("absorption_exceptions", "exceptions"),
    )
    if not state.exceptions:
        return
    engine, store, latent = resources.engine(), resources.store(), selection.latent
    own = replace(request, parent=None)

    def look(progress: Any) -> "Exceptions":
        lease = engine.lease(own.model, own.names, progress=progress)
        return run_exceptions(lease, store, own, latent)

    found = job_results.recent_result(
        f"exceptions:{own.key}:{latent}",
        f"Exceptions of latent {latent}",
        look,
        link=jobs.link(selection, view, **LINK.to_parameters(state)),
        room=300,
    )
    if found is not None:
        absorbed.exceptions(selection, entry, found)


def _widths(
    selection: Selection,
    entry: SaeEntry,
    request: AbsorptionRequest,
    view: SaePageView,
    choices: Choices,
    state: AbsorptionView,
) -> None:
    entries = entries_of(choices, selection, entry, "family")
    if len(entries) < 2 or request.parent is not None:
        return
    st.subheader("Over the widths of the family")
    if not weights.ready(selection.model, entries, then="Download all widths"):
        return
    every = replace(request, saes=tuple((*it.key, it.version) for it in entries))
    found = _found(selection, every, view, state, one=False)
    if found is not None:
        absorbed.widths(
            selection, entry, {it.sae_id: one for it, one in zip(entries, found, strict=True)}
        )
