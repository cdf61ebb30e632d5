"""The jobs behind the page: sweeps, and what they are compared with."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.jobs import JobState
from core.view.patch_scoping.asking import PromptFacts, Question
from pages.parts import work

if TYPE_CHECKING:
    import pandas as pd

    from core.patch_scoping.standing import Standing
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.workbench import ScopeRequest


@st.cache_resource(show_spinner=False, max_entries=200)
def facts(question: Question) -> PromptFacts:
    """The prompt as the model sees it; it must be loaded, or is loaded now."""
    from core.view.patch_scoping.asking import prompt_facts

    return prompt_facts(resources.engine(), question)


@st.cache_resource(show_spinner=False, max_entries=200)
def n_layers(speaker: str) -> int:
    """Layers of a model that is loaded."""
    with resources.engine().use(speaker) as (model, _):
        return int(model.cfg.n_layers)


def swept(request: "ScopeRequest", *, link: str, start: bool) -> "ScopeResult | None":
    """The sweep, or None: while it runs, which is shown, or until the reader starts it."""
    from core.view.patch_scoping.scoping import run

    engine, store = resources.engine(), resources.store()

    def begin() -> None:
        resources.jobs().submit(
            request.key,
            _title(request),
            lambda progress: run(engine, store, request, progress),
            link=link,
        )

    if not start and resources.jobs().get(request.key) is None:
        n = len(request.config.layers) * len(request.config.scales or request.config.multiples)
        st.button(
            "Let the model explain this latent",
            type="primary",
            icon=":material/play_arrow:",
            key="scope_start",
            on_click=begin,
        )
        st.caption(
            f"{n * request.config.sampling.n_samples} texts of at most "
            f"{request.config.max_new_tokens} tokens will be written; on a large model without a "
            "GPU this takes minutes. What was asked before is answered at once."
        )
        return None
    return work.result(
        request.key,
        _title(request),
        lambda progress: run(engine, store, request, progress),
        link=link,
        wait=1.0,
    )


def standings(request: "ScopeRequest", *, link: str) -> "dict[int, Standing] | None":
    """By latent, or None while they are measured, which is shown."""
    from core.view.patch_scoping.scoping import run_standings

    engine, store = resources.engine(), resources.store()
    return work.result(
        f"{request.key}:standing",
        "Random directions for comparison",
        lambda progress: run_standings(engine, store, request, progress),
        link=link,
    )


def controls(
    request: "ScopeRequest", others: tuple[int, ...], *, link: str
) -> "pd.DataFrame | None":
    """The controls' texts, or None while they are made."""
    from core.view.patch_scoping.beside import run_controls

    engine, store = resources.engine(), resources.store()
    return work.result(
        f"{request.key}:controls:{others}",
        "Texts of controls",
        lambda progress: run_controls(engine, store, request, others, progress),
        link=link,
    )


def tuning(
    request: "ScopeRequest", layer: int, norms: tuple[float, ...], *, link: str
) -> "pd.DataFrame | None":
    """The scale-tuning table, or None while it is made."""
    from core.view.patch_scoping.beside import run_tuning

    engine, store = resources.engine(), resources.store()
    return work.result(
        f"{request.key}:tuning:{layer}:{norms}",
        "Scale tuning",
        lambda progress: run_tuning(engine, store, request, layer, norms, progress),
        link=link,
    )


def is_done(key: str) -> bool:
    """Whether the job of this key has a result."""
    job = resources.jobs().get(key)
    return job is not None and job.state is JobState.DONE


def _title(request: "ScopeRequest") -> str:
    n = len(request.latents)
    what = f"latent {request.latents[0]}" if n == 1 else f"{n} latents"
    return f"{request.question.speaker} explains {what}"
