"""The jobs behind the page: sweeps, what they are compared with, and what speaks for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.jobs import JobState
from core.patch_scoping.question import PromptFacts, Question
from core.view.markup import n_of
from core.view.selection import Selection
from pages.parts import action, job_results, loading, tasks
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    import pandas as pd

    from core.activations.text_index import IndexRequest
    from core.lease import Lease
    from core.patch_scoping.choice import By
    from core.patch_scoping.null_distribution import NullComparison
    from core.patch_scoping.peak_tokens import PeakTokens
    from core.patch_scoping.run import ScopeRequest, ScopeResult
    from core.patch_scoping.transfer import Quality
    from core.patch_scoping.word_readings import WordReadings


@st.cache_resource(show_spinner=False, max_entries=200)
def facts(question: Question) -> PromptFacts:
    """The prompt as the model sees it; it must be loaded, or is loaded now."""
    from core.patch_scoping.question import prompt_facts

    return prompt_facts(resources.engine(), question)


@st.cache_resource(show_spinner=False, max_entries=200)
def n_layers(speaker: str) -> int:
    """Layers of a model that is loaded."""
    with resources.engine().use(speaker) as (model, _):
        return int(model.cfg.n_layers)


def sweep_result(request: "ScopeRequest", *, link: str, start: bool) -> "ScopeResult | None":
    """The sweep, or None: while it runs, which is shown, or until the reader starts it."""
    from core.patch_scoping.run import run_sweep

    store = resources.store()

    def make(progress: Any) -> "ScopeResult":
        return run_sweep(_lease(request, progress), store, request)

    if not start and tasks.found(request.key) is None:
        n = len(request.config.layers) * len(request.config.scales or request.config.multiples)
        if action.clicked(
            "Let the model explain this latent",
            type="primary",
            icon=":material/play_arrow:",
            key="scope_start",
        ):
            tasks.attempt(lambda: tasks.submit(request.key, _title(request), make, link=link))
            st.rerun()
        st.caption(
            f"{n * request.config.sampling.n_samples} texts of at most "
            f"{request.config.max_new_tokens} tokens will be written; {_takes(request)}. What was "
            "asked before is answered at once."
        )
        return None
    return job_results.result(request.key, _title(request), make, link=link, wait=1.0)


def _takes(request: "ScopeRequest") -> str:
    """How long the texts take, as far as this machine has shown."""
    from core.patch_scoping.run import expected_seconds
    from core.usual_time import in_words

    seconds = expected_seconds(resources.store(), request)
    if seconds is None:
        return "on a large model without a GPU this takes minutes"
    return f"this takes {in_words(seconds)}, as the last ones did here"


def null_comparison(request: "ScopeRequest", *, link: str) -> "dict[int, NullComparison] | None":
    """Each latent against random directions, or None while that is measured, which is shown."""
    from core.patch_scoping.run import run_null_comparison

    store = resources.store()
    return job_results.result(
        f"{request.key}:null",
        "Random directions for comparison",
        lambda progress: run_null_comparison(_lease(request, progress), store, request),
        link=link,
    )


def controls(
    request: "ScopeRequest", others: tuple[int, ...], *, link: str
) -> "pd.DataFrame | None":
    """The controls' texts, or None while they are made."""
    from core.patch_scoping.run import run_controls

    store = resources.store()
    return job_results.result(
        f"{request.key}:controls:{others}",
        "Texts of controls",
        lambda progress: run_controls(_lease(request, progress), store, request, others),
        link=link,
    )


def tuning(
    request: "ScopeRequest", layer: int, norms: tuple[float, ...], *, link: str
) -> "pd.DataFrame | None":
    """The scale-tuning table, or None while it is made."""
    from core.patch_scoping.run import run_scale_tuning

    store = resources.store()
    return job_results.result(
        f"{request.key}:tuning:{layer}:{norms}",
        "Scale tuning",
        lambda progress: run_scale_tuning(_lease(request, progress), store, request, layer, norms),
        link=link,
    )


def is_done(key: str) -> bool:
    """Whether the job of this key has a result."""
    job = tasks.found(key)
    return job is not None and job.state is JobState.DONE


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


def may_start(name: str, request: "ScopeRequest", label: str, note: str) -> bool:
    """Whether something that takes long may start: on the demo always, else at a click."""
    key = f"scope_asked_{name}_{request.sae}_{request.question.speaker}"
    if resources.catalog().model(request.question.speaker).source == "demo":
        return True
    if not st.session_state.get(key):
        st.caption(note)
        if action.clicked(label, key=f"scope_ask_{name}", icon=":material/play_arrow:"):
            st.session_state[key] = True
            st.rerun()
    return bool(st.session_state.get(key))


def peaks(request: "ScopeRequest", *, link: str) -> "PeakTokens | None":
    """What the latents fire on and write, or None while it is found out."""
    from core.patch_scoping.peak_tokens import find_peak_tokens

    store, wanted = resources.store(), _index(request)
    return job_results.result(
        f"patch-scoping-peaks:{wanted.key}",
        "What latents fire on",
        lambda progress: find_peak_tokens(_base_lease(request, progress), store, wanted),
        link=link,
    )


def quality(
    request: "ScopeRequest", models: Sequence[str], *, link: str
) -> "dict[str, Quality] | None":
    """The SAE's fit to each model, or None while it is measured."""
    from core.corpus import docs_sample
    from core.patch_scoping.transfer import measure_quality

    engine, store, corpus = resources.engine(), resources.store(), docs_sample()

    def make(progress: Any) -> "dict[str, Quality]":
        leases = {model: engine.lease(model, [request.sae], progress=progress) for model in models}
        return {model: measure_quality(lease, store, corpus) for model, lease in leases.items()}

    return job_results.result(
        f"sae-quality:{list(models)}:{request.sae}:{request.sae_version}:{corpus.digest}",
        "How well the SAE fits",
        make,
        link=link,
    )


def detection(request: "ScopeRequest", text: str, *, link: str) -> "dict[str, Any] | None":
    """How well the text tells where the latent fires, or None while it is checked."""
    from core.autointerp.lexical import detection_by_words
    from core.corpus import docs_sample

    store, corpus = resources.store(), docs_sample()
    model, latent = base_model(request), request.latents[0]
    found = job_results.result(
        f"patch-scoping-detection:{model}:{request.sae}:{request.sae_version}:{latent}:{text}",
        f"Checking the text of latent {latent}",
        lambda progress: detection_by_words(
            _base_lease(request, progress), store, corpus, {latent: text}
        ),
        link=link,
    )
    return None if found is None else found[latent]


def readings(
    request: "ScopeRequest", models: Sequence[str], found: "PeakTokens", by: "By", *, link: str
) -> "WordReadings | None":
    """How well each model reads latents of one word, or None while it is measured."""
    from dataclasses import replace

    from core.patch_scoping.word_readings import read_words
    from core.usual_time import measured

    engine, store = resources.engine(), resources.store()
    key = replace(request, latents=()).key
    work = _readings_work(request)

    def make(progress: Any) -> "WordReadings":
        leases = {model: engine.lease(model, [request.sae], progress=progress) for model in models}
        with measured(store, work, partly_stored=True):
            return read_words(leases, store, request, found, by)

    return job_results.result(
        f"{key}:readings:{list(models)}:{by}",
        "Can the model read latents?",
        make,
        link=link,
    )


def readings_take(request: "ScopeRequest") -> str:
    """How long `readings` take, as a sentence; "" before they were made here."""
    from core.usual_time import in_words, usual_seconds

    seconds = usual_seconds(resources.store(), _readings_work(request))
    return "" if seconds is None else f" Takes {in_words(seconds)}, as it took here before."


def _readings_work(request: "ScopeRequest") -> str:
    return f"readings:{request.question.speaker}"


def _lease(request: "ScopeRequest", progress: Any) -> "Lease":
    """The model that is asked, with the SAE."""
    return resources.engine().lease(request.question.speaker, [request.sae], progress=progress)


def _base_lease(request: "ScopeRequest", progress: Any) -> "Lease":
    """The model that the SAE was trained on, with the SAE."""
    return resources.engine().lease(base_model(request), [request.sae], progress=progress)


def _index(request: "ScopeRequest") -> "IndexRequest":
    """The SAE's index on the docs sample, as the dashboards make it."""
    from core.activations.text_index import IndexRequest
    from core.corpus import docs_sample
    from core.patch_scoping.peak_tokens import SAMPLE_TOKENS

    sae = (*request.sae, request.sae_version)
    return IndexRequest(base_model(request), (sae,), docs_sample(), SAMPLE_TOKENS)


def _title(request: "ScopeRequest") -> str:
    n = len(request.latents)
    what = f"latent {request.latents[0]}" if n == 1 else n_of(n, "latent")
    return f"{request.question.speaker} explains {what}"
