"""Sweeps behind the page: the work of a job, in short leases, kept in the store latent by latent.

A latent that was swept before, alone or in a batch, by anybody, is read from the store. What random
directions do is the same for all latents of a prompt, and is measured after the texts, which are
what the reader waits for.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.diagnostics import Diagnostics, join_diagnostics
from core.patch_scoping.standing import Standing, standings_of
from core.patch_scoping.sweep import measure_controls, sweep
from core.store import ARRAYS, FRAME, Store
from core.view.patch_scoping.workbench import ScopeRequest, Workbench, in_leases


@dataclass(frozen=True, eq=False)
class ScopeResult:
    """What a sweep found."""

    table: pd.DataFrame
    """That of `Sweep`: a row for each latent, layer, scale and sample."""
    sae_print: str
    """Fingerprint of the SAE, under which descriptions are saved."""
    d_sae: int
    """Latents of the SAE."""


def run(engine: Engine, store: Store, request: ScopeRequest, progress: Progress) -> ScopeResult:
    """The sweep of all latents of the request, without the comparison with random directions.

    Raises:
        ValueError: a prompt, layer, scale or latent that cannot be used.
    """
    # The random directions do not change the texts: one entry of the store for both.
    bare = replace(request, config=replace(request.config, n_controls=0))
    work = Workbench(engine, store, bare, progress)
    keys = {it: work.key("patch-scoping", latents=[it]) for it in request.latents}
    found = {latent: store.get(key, FRAME) for latent, key in keys.items()}
    missing = [latent for latent, table in found.items() if table is None]

    def sweep_some(first: int, last: int) -> None:
        some = missing[first:last]
        with work.lease() as (model, sae, prompt):
            prompts = {request.question.template: prompt}
            table = sweep(model, sae, some, prompts, bare.config, progress=work.part).table
        for latent in some:
            found[latent] = table[table["latent"] == latent].reset_index(drop=True)
            store.put(keys[latent], found[latent], FRAME)

    def report(done: int) -> None:
        n, here = len(found), len(found) - len(missing)
        progress.update(here + done, n, unit="latents", message="Letting the model explain")

    in_leases(len(missing), sweep_some, report)
    table = pd.concat([found[latent] for latent in request.latents], ignore_index=True)
    return ScopeResult(table, work.sae_print, work.d_sae)


def run_standings(
    engine: Engine, store: Store, request: ScopeRequest, progress: Progress
) -> dict[tuple[int, int], Standing]:
    """By latent and layer: does it stand out from random directions? Sweeps what is missing."""
    table = run(engine, store, request, progress).table
    work = Workbench(engine, store, replace(request, latents=()), progress)
    found: dict[tuple[int, int], Standing] = {}
    for layer in dict.fromkeys(request.config.layers):
        controls = _controls(work, layer)
        told = standings_of(table[table["layer"] == layer], controls)
        found |= {(int(latent), layer): it for latent, it in told.items()}
    return found


def _controls(work: Workbench, layer: int) -> Diagnostics:
    """What random directions do at one layer."""
    config = work.request.config
    key = work.key("patch-scoping-random", layer=layer, sae="")
    arrays = work.store.get(key, ARRAYS)
    if arrays is not None:
        return Diagnostics(**arrays)
    parts: list[Diagnostics] = []

    def measure(first: int, last: int) -> None:
        span = (first, last)
        with work.lease() as (model, _, prompt):
            parts.append(
                measure_controls(model, prompt, layer, config, span=span, progress=work.part)
            )

    def report(done: int) -> None:
        work.progress.update(
            done, config.n_controls, unit="directions", message="Comparing with random directions"
        )

    in_leases(config.n_controls, measure, report)
    joined = join_diagnostics(parts)
    arrays = {name: np.asarray(it) for name, it in vars(joined).items() if it is not None}
    work.store.put(key, arrays, ARRAYS)
    return joined
