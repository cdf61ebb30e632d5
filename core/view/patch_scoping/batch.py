"""A text for each of many latents, with the verdict on it."""

import math
from dataclasses import dataclass

import pandas as pd

from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.choice import By, choose
from core.patch_scoping.standing import Standing
from core.store import Store
from core.view.patch_scoping.scoping import run, run_standings
from core.view.patch_scoping.workbench import ScopeRequest


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What came out of a batch."""

    table: pd.DataFrame
    """Every text: that of `Sweep`."""
    standings: dict[int, Standing]
    """By latent."""


def run_batch(
    engine: Engine, store: Store, request: ScopeRequest, progress: Progress
) -> BatchResult:
    """Sweep all latents of the request and compare each with random directions. Raises as `run`."""
    table = run(engine, store, request, progress).table
    return BatchResult(table, run_standings(engine, store, request, progress))


def batch_table(batch: BatchResult, by: By) -> pd.DataFrame:
    """A row a latent: its best text over all layers and scales, and whether it stands out.

    `p` is the share of random directions that speak as clearly, `agreement` that of the latent's
    texts with one another; the other measures are those of the best text.
    """
    best = choose(batch.table, by, per=("latent",))
    told = [batch.standings[int(latent)] for latent in best["latent"]]
    return pd.DataFrame(
        {
            "latent": best["latent"].astype(int),
            "text": best["answer"],
            "verdict": [it.verdict for it in told],
            "surety": best["mean_log_prob"].map(math.exp).round(4),
            "layer": best["layer"].astype(int),
            "scale": best["multiple"].round(4),
            "norm": best["scale"].round(4),
            "self_similarity": best["self_similarity"].round(5),
            "entropy": best["entropy"].round(4),
            "cross_entropy": best["cross_entropy"].round(4),
            "p": [round(it.p, 4) for it in told],
            "agreement": [round(it.agreement, 4) for it in told],
        }
    )
