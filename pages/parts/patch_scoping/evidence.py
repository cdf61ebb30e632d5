"""What panels need besides sweeps: the latents' tokens, the SAE's fit, the model's reading."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.view.selection import Selection
from pages.parts import loading, work
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.patch_scoping.choice import By
    from core.patch_scoping.transfer import Quality
    from core.view.patch_scoping.peaks import Peaks
    from core.view.patch_scoping.trust import Readings
    from core.view.patch_scoping.workbench import ScopeRequest


def base_ready(request: "ScopeRequest") -> bool:
    """Whether the SAE's own model is loaded; else it is, or its download is offered."""
    entry = resources.catalog().entry(*request.sae)
    selection = Selection(entry.model, *request.sae)
    if loading.is_loaded(selection):
        return True
    if loading.draw(selection, entry):
        reserve_room(300)
    return False


def base_model(request: "ScopeRequest") -> str:
    """The model that the SAE was trained on."""
    return resources.catalog().entry(*request.sae).model


def asked_for(name: str, request: "ScopeRequest", label: str, note: str) -> bool:
    """Whether something that takes long may start: on the demo always, else at a click."""
    key = f"scope_asked_{name}_{request.sae}_{request.question.speaker}"
    if resources.catalog().model(request.question.speaker).source == "demo":
        return True
    if not st.session_state.get(key):
        st.caption(note)
        st.button(
            label,
            key=f"scope_ask_{name}",
            icon=":material/play_arrow:",
            on_click=lambda: st.session_state.update({key: True}),
        )
    return bool(st.session_state.get(key))


def peaks(request: "ScopeRequest", *, link: str) -> "Peaks | None":
    """What the latents fire on and write, or None while it is found out."""
    from core.corpus import docs_sample
    from core.view.patch_scoping.peaks import find_peaks

    engine, store, model = resources.engine(), resources.store(), base_model(request)
    corpus = docs_sample()
    return work.result(
        f"patch-scoping-peaks:{model}:{request.sae}:{request.sae_version}:{corpus.digest}",
        "What latents fire on",
        lambda progress: find_peaks(engine, store, model, request.sae, corpus, progress),
        link=link,
    )


def quality(
    request: "ScopeRequest", models: Sequence[str], *, link: str
) -> "dict[str, Quality] | None":
    """The SAE's fit to each model, or None while it is measured."""
    from core.corpus import docs_sample
    from core.view.patch_scoping.trust import sae_quality

    engine, store, corpus = resources.engine(), resources.store(), docs_sample()
    return work.result(
        f"sae-quality:{list(models)}:{request.sae}:{request.sae_version}:{corpus.digest}",
        "How well the SAE fits",
        lambda progress: sae_quality(engine, store, models, request.sae, corpus, progress),
        link=link,
    )


def detection(request: "ScopeRequest", text: str, *, link: str) -> "dict[str, Any] | None":
    """How well the text tells where the latent fires, or None while it is checked."""
    from core.corpus import docs_sample
    from core.view.patch_scoping.detect import run_detection

    engine, store, corpus = resources.engine(), resources.store(), docs_sample()
    model, latent = base_model(request), request.latents[0]
    found = work.result(
        f"patch-scoping-detection:{model}:{request.sae}:{request.sae_version}:{latent}:{text}",
        f"Checking the text of latent {latent}",
        lambda progress: run_detection(
            engine, store, model, request.sae, corpus, {latent: text}, progress
        ),
        link=link,
    )
    return None if found is None else found[latent]


def readings(
    request: "ScopeRequest", models: Sequence[str], found: "Peaks", by: "By", *, link: str
) -> "Readings | None":
    """How well each model reads latents of one word, or None while it is measured."""
    from dataclasses import replace

    from core.view.patch_scoping.trust import read_words

    engine, store = resources.engine(), resources.store()
    key = replace(request, latents=()).key
    return work.result(
        f"{key}:readings:{list(models)}:{by}",
        "Can the model read latents?",
        lambda progress: read_words(engine, store, request, models, found, by, progress),
        link=link,
    )
