"""Patch scoping: the model itself says what a latent means."""

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.patch_scoping.question import Question, automatic_choice, default_layers, speakers
from core.patch_scoping.view import ScopeView, parse_scales
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, frame, latent_links, loading, opening
from pages.parts.latent import elsewhere
from pages.parts.patch_scoping import VIEW, answer, ask, jobs, panels
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.patch_scoping.run import ScopeRequest

INTRO = (
    "The model explains a latent in its own words: it is asked what a word means, and the latent's "
    "direction takes the place of that word. How strongly it is put in decides whether the model "
    "says nothing, something, or babbles, so many strengths (scales) are tried at once."
)


def draw(view: View) -> None:
    """What this page has of its own."""
    selection = opening.heading(view, "Patch scoping", INTRO)
    if selection is None or view.entry is None:
        return
    scope = VIEW.begin()
    for problem in VIEW.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    able = speakers(view.choices, view.entry, resources.catalog())
    names = [model.name for model in able]
    speaker = scope.speaker if scope.speaker in names else names[0]
    if scope.speaker and scope.speaker != speaker:
        st.warning(
            escape_markdown(f"{scope.speaker} cannot explain this SAE; {speaker} is asked."),
            icon=":material/link_off:",
        )
    question = Question(speaker, scope.template, scope.prompt, scope.prefill)
    spoken = replace(selection, model=speaker)
    n_layers = jobs.n_layers(speaker) if loading.is_loaded(spoken) else None
    demo = resources.catalog().model(speaker).source == "demo"
    layers = _layers(scope, n_layers, demo=demo)
    ask.draw(able, speaker, scope, layers=layers, n_layers=n_layers)
    tuned = [model.name for model in able if model.base_model and model.source == "hub"]
    if tuned and speaker == view.entry.model:
        st.caption(
            escape_markdown(
                f"{tuned[0]} was tuned from this model to answer questions and explains better; "
                "choose it above if this machine can hold it."
            )
        )
    if opening.ready(replace(view, selection=spoken)) and n_layers is not None:
        with errors.shown_plainly():
            facts = jobs.facts(question)
            answer.prompt(facts)
            request = _request(question, selection, view, scope, layers, facts.stop)
            _explain(request, selection, scope, demo=demo)
    with st.container(horizontal=True, gap="medium"):
        elsewhere.draw(selection, here="patch-scoping")


def _request(
    question: Question,
    selection: Selection,
    view: View,
    scope: ScopeView,
    layers: tuple[int, ...],
    stop: str | None,
) -> "ScopeRequest":
    from core.patch_scoping.run import ScopeRequest
    from core.patch_scoping.sampling import Sampling
    from core.patch_scoping.sweep import SweepConfig

    scales = parse_scales(scope.scales)
    absolute = scope.unit == "absolute"
    config = SweepConfig(
        layers=layers,
        scales=scales if absolute else None,
        multiples=() if absolute else scales,
        max_new_tokens=scope.new_tokens,
        stop=stop,
        sampling=Sampling(
            temperature=scope.temperature,
            top_p=scope.top_p,
            freq_penalty=scope.penalty,
            n_samples=scope.samples,
            seed=scope.seed,
        ),
        seed=scope.seed,
    )
    version = view.entry.version if view.entry else ""
    return ScopeRequest(question, selection.sae, version, (selection.latent,), config)


def _layers(scope: ScopeView, n_layers: int | None, *, demo: bool) -> tuple[int, ...]:
    chosen = tuple(layer for layer in scope.layers if n_layers is None or layer < n_layers)
    return chosen or (default_layers(n_layers, demo=demo) if n_layers else ())


def _explain(
    request: "ScopeRequest", selection: Selection, scope: ScopeView, *, demo: bool
) -> None:
    from core.patch_scoping.tables import best_text

    link = latent_links.address("patch-scoping", selection, **VIEW.link.to_parameters(scope))
    place = st.container()
    result = jobs.sweep_result(request, link=link, start=demo)
    if result is None:
        return
    by = automatic_choice(demo=demo) if scope.choose == "auto" else scope.choose
    best = best_text(result.table, by)  # type: ignore[arg-type]  # one of CHOICES, less "auto"
    with place:
        head = st.container()
        answer.table(result, norms=scope.unit == "absolute")
    measuring = st.container()
    with measuring:
        compared = jobs.null_comparison(request, link=link)
    own = (compared or {}).get(selection.latent)
    with head:
        answer.headline(selection.latent, best, by, own, result, waiting=compared is None)
    panels.draw(request, result, best, by, scope, own, link=link)


frame.show(draw)
