"""Sweeps behind the page: the work of a job, in short leases, kept in the store latent by latent.

A latent that was swept before, alone or in a batch, by anybody, is read from the store. What the
model says of random directions is the same for all latents of a prompt, and is asked after the
texts, which are what the reader waits for.
"""

from dataclasses import dataclass, replace

import pandas as pd

from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.standing import Standing, standings_of
from core.patch_scoping.sweep import random_sweep, sweep
from core.store import FRAME, Store
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
) -> dict[int, Standing]:
    """By latent: does it stand out from random directions? Sweeps what is missing."""
    table = run(engine, store, request, progress).table
    work = Workbench(engine, store, replace(request, latents=()), progress)
    return {int(it): one for it, one in standings_of(table, _controls(work)).items()}


def _controls(work: Workbench) -> pd.DataFrame:
    """What the model says of random directions."""
    config, question = work.request.config, work.request.question
    key = work.key("patch-scoping-random", sae="", version=2)
    table = work.store.get(key, FRAME)
    if table is not None:
        return table
    parts: list[pd.DataFrame] = []

    def explain(first: int, last: int) -> None:
        with work.lease() as (model, _, prompt):
            prompts = {question.template: prompt}
            parts.append(
                random_sweep(model, prompts, config, span=(first, last), progress=work.part)
            )

    def report(done: int) -> None:
        work.progress.update(
            done, config.n_controls, unit="directions", message="Comparing with random directions"
        )

    in_leases(config.n_controls, explain, report)
    table = pd.concat(parts, ignore_index=True)
    work.store.put(key, table, FRAME)
    return table
