"""Beside a sweep: the texts of controls, and how the self-similarity changes with the scale."""

import pandas as pd

from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.controls import control_sweep
from core.patch_scoping.diagnostics import default_diagnostic_layer
from core.patch_scoping.scale_tuning import scale_tuning
from core.store import FRAME, Store
from core.view.patch_scoping.workbench import ScopeRequest, Workbench, in_leases


def run_controls(
    engine: Engine,
    store: Store,
    request: ScopeRequest,
    others: tuple[int, ...],
    progress: Progress,
    *,
    n_random: int = 2,
) -> pd.DataFrame:
    """Texts of random directions, other latents and the untouched prompt; see `control_sweep`."""
    work = Workbench(engine, store, request, progress)
    key = work.key("patch-scoping-controls", others=list(others), n_random=n_random)
    table = store.get(key, FRAME)
    if table is None:
        progress.update(0, None, message="Letting the model explain the controls")
        with work.lease() as (model, sae, prompt):
            table = control_sweep(
                model,
                sae,
                {request.question.template: prompt},
                request.config,
                n_random=n_random,
                others=others,
                seed=request.config.sampling.seed + 1,
                progress=work.part,
            )
        store.put(key, table, FRAME)
    return table


def run_tuning(
    engine: Engine,
    store: Store,
    request: ScopeRequest,
    layer: int,
    scales: tuple[float, ...],
    progress: Progress,
) -> pd.DataFrame:
    """`scale_tuning` with derivatives for the request's first latent, at these norms."""
    work = Workbench(engine, store, request, progress)
    key = work.key("patch-scoping-tuning", layer=layer, norms=list(scales))
    table = store.get(key, FRAME)
    if table is None:
        parts: list[pd.DataFrame] = []

        def measure(first: int, last: int) -> None:
            with work.lease() as (model, sae, prompt):
                parts.append(
                    scale_tuning(
                        model,
                        sae,
                        prompt.text,
                        request.latents[0],
                        layer,
                        default_diagnostic_layer(model, layer),
                        scales[first:last],
                        placeholder=prompt.placeholder,
                    )
                )

        def report(done: int) -> None:
            progress.update(done, len(scales), unit="scales", message="Differentiating by scale")

        in_leases(len(scales), measure, report)
        table = pd.concat(parts, ignore_index=True)
        store.put(key, table, FRAME)
    return table
