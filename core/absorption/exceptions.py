"""Exceptions of one latent: where should it fire and does not, and which latent fires instead?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.absorption.analyse import absorber_table, hits_of, intervals, token_table
from core.absorption.concepts import Concept
from core.absorption.measure import Thresholds, absorbed
from core.absorption.probe import f1_of, fit_probes, held_out
from core.absorption.sites import Sites
from core.fit_check.sums import Figure


@dataclass(frozen=True, eq=False)
class Exceptions:
    """One latent against the concept that it fits best."""

    latent: int
    """The latent."""
    concept: str
    """The concept that its firing fits best."""
    fit: float
    """F1 of "it fires" as an answer to the concept."""
    chance_fit: float
    """The best F1 that a latent would have that fires as often, anywhere: F1 of always saying yes
    at its rate, over the same concepts."""
    runner_up: str
    """The concept that fits next best; empty where there is no other."""
    probe_f1: float
    """F1 of the concept's probe on held-out tokens."""
    fires: int
    """Of the probe's true positives, those at which it fires."""
    n_hits: int
    """The probe's true positives."""
    full: Figure
    """Share of them that one other latent carries instead."""
    tokens: pd.DataFrame
    """As `ConceptResult.tokens`."""
    absorbers: pd.DataFrame
    """As `ConceptResult.absorbers`."""


def exceptions_of(
    sites: Sites,
    latent: int,
    concepts: Sequence[Concept],
    *,
    thresholds: Thresholds | None = None,
    seed: int = 0,
) -> Exceptions:
    """Where a latent does not fire although its best concept is true.

    Raises:
        ValueError: a latent that does not exist or never fires here, or no concept.
    """
    if not 0 <= latent < sites.acts.shape[1]:
        raise ValueError(f"There is no latent {latent}; choose 0 to {sites.acts.shape[1] - 1}.")
    if not concepts:
        raise ValueError("There is no concept to compare the latent with; read a longer text.")
    fires = np.asarray(sites.acts[:, [latent]].todense()).ravel() > 0
    if not fires.any():
        raise ValueError(
            f"Latent {latent} does not fire on these positions; read a longer text or choose "
            "another latent."
        )
    fits = np.array([f1_of(fires, it.label) for it in concepts])
    rate = fires.mean()
    chance = [2 * rate * s / (rate + s) for s in (it.label.mean() for it in concepts)]
    order = np.argsort(-fits, kind="stable")
    best = concepts[int(order[0])]
    train = held_out(sites.token, seed=seed)
    (probe,) = fit_probes(sites.x, best.label[:, None], train)
    hits = hits_of(sites, best.label, probe)
    here = absorbed(sites.only(hits), probe.direction, np.array([latent]), thresholds=thresholds)
    score = sites.x[hits] @ probe.direction - probe.cut
    return Exceptions(
        latent=latent,
        concept=best.name,
        fit=float(fits[order[0]]),
        chance_fit=float(max(chance)),
        runner_up=concepts[int(order[1])].name if len(order) > 1 else "",
        probe_f1=probe.f1,
        fires=int(here.fires.sum()),
        n_hits=len(hits),
        full=intervals(sites.token[hits], here, seed)[0],
        tokens=token_table(sites.token[hits], score, here),
        absorbers=absorber_table(sites, hits, probe.direction, here),
    )
