"""What a model says of a run's latents, and of its controls: as on the page of patch scoping.

The question, the layers, the scales and the choice of a text are those that the page of patch
scoping starts with, so that both pages say the same of a latent, and share what is in the store.
"""

import hashlib
from collections.abc import Mapping

import pandas as pd

from core.autointerp.roles import Explained
from core.autointerp.scope import explained_by
from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.sweep import SweepConfig, sweep_directions
from core.store import FRAME, Store
from core.view.autointerp.gathering import Gathered
from core.view.autointerp.request import RunRequest
from core.view.patch_scoping.asking import (
    Question,
    automatic_choice,
    default_layers,
    prompt_facts,
)
from core.view.patch_scoping.scope_view import ScopeView, parse_scales
from core.view.patch_scoping.scoping import run
from core.view.patch_scoping.workbench import ScopeRequest, Workbench, in_leases

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
    own = explained_by(run(engine, store, asked, progress).table, text, by)
    work = Workbench(engine, store, asked, progress)
    controls = {}
    for kind in gathered.directions:
        table = _control(work, gathered, kind)
        controls[kind] = explained_by(table, text, by)
    return own, controls


def is_demo(engine: Engine, model: str) -> bool:
    """Whether a model is the demo's."""
    return engine.catalog.model(model).source == "demo"


def _control(work: Workbench, gathered: Gathered, kind: str) -> pd.DataFrame:
    """The sweep over one control's units, a row a text."""
    directions, units = gathered.directions[kind], list(gathered.controls[kind])
    digest = hashlib.sha256(directions.cpu().numpy().tobytes()).hexdigest()
    key = work.key("patch-scoping-control", latents=units, sae="", directions=digest)
    found = work.store.get(key, FRAME)
    if found is not None:
        return found
    tables: list[pd.DataFrame] = []
    config = work.request.config

    def ask(first: int, last: int) -> None:
        with work.lease() as (model, _, prompt):
            swept = sweep_directions(
                model,
                units[first:last],
                directions[first:last],
                {work.request.question.template: prompt},
                config,
                progress=work.part,
            )
        tables.append(swept.table)

    def report(done: int) -> None:
        message = f"Letting the model explain {kind}"
        work.progress.update(done, len(units), unit="units", message=message)

    in_leases(len(units), ask, report)
    table = pd.concat(tables, ignore_index=True)
    work.store.put(key, table, FRAME)
    return table
