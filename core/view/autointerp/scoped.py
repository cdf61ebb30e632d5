"""What a model says of a run's latents, and of its controls: as on the page of patch scoping.

The question, the layers, the scales and the choice of a text are those that the page of patch
scoping starts with, so that both pages say the same of a latent, and share what is in the store.
"""

from collections.abc import Mapping

from core.autointerp.roles import Explained
from core.autointerp.scope import explained_by
from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.question import (
    Question,
    automatic_choice,
    default_layers,
    prompt_facts,
)
from core.patch_scoping.run import ScopeRequest, run_directions, run_sweep
from core.patch_scoping.sweep import SweepConfig
from core.patch_scoping.view import ScopeView, parse_scales
from core.store import Store
from core.view.autointerp.gathering import Gathered
from core.view.autointerp.request import RunRequest

Explanations = Mapping[int, Explained]
"""By latent, or by unit of a control."""


def scope_request(engine: Engine, request: RunRequest, latents: tuple[int, ...]) -> ScopeRequest:
    """What the page of patch scoping asks the run's speaker about these latents, unless told."""
    view = ScopeView()
    question = Question(request.explaining_model, view.template)
    facts = prompt_facts(engine, question)
    config = SweepConfig(
        layers=default_layers(facts.n_layers, demo=is_demo(engine, request.explaining_model)),
        multiples=parse_scales(view.scales),
        max_new_tokens=view.new_tokens,
        stop=facts.stop,
        n_controls=0,
        seed=view.seed,
    )
    return ScopeRequest(question, request.sae, request.version, latents, config)


def scoped(
    engine: Engine, store: Store, request: RunRequest, gathered: Gathered, progress: Progress
) -> tuple[Explanations, Mapping[str, Explanations]]:
    """What the model says of the latents, and of the units of each control.

    Raises ValueError where the latents do not write to the residual stream.
    """
    asked = scope_request(engine, request, tuple(gathered.cfg.latents))
    by = automatic_choice(demo=is_demo(engine, request.explaining_model))
    text = prompt_facts(engine, asked.question).text
    lease = engine.lease(request.explaining_model, [request.sae], progress=progress)
    own = explained_by(run_sweep(lease, store, asked).table, text, by)
    controls = {}
    for kind, directions in gathered.directions.items():
        units = list(gathered.controls[kind])
        table = run_directions(lease, store, asked, units, directions, title=kind)
        controls[kind] = explained_by(table, text, by)
    return own, controls


def is_demo(engine: Engine, model: str) -> bool:
    """Whether a model is the demo's."""
    return engine.catalog.model(model).source == "demo"
