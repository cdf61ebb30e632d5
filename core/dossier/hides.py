"""Hides: where should the latent fire by its best concept, and does not, and who fires instead?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.absorption.concepts import Concept
from core.absorption.exceptions import Exceptions, exceptions_of
from core.absorption.reading import find_concepts, read_sites
from core.absorption.run import AbsorptionRequest
from core.absorption.sites import Sites
from core.dossier.measure import Measure, share
from core.dossier.reads import described
from core.dossier.shared import Shared

VERSION = 1
SITE_TOKENS = 40_000
"""Text in which positions are looked for."""
LEAST_FIT = 0.4
"""F1 from which on a kind of tokens says anything of the latent."""
_MOST = 12


@dataclass(frozen=True, eq=False)
class Hides:
    """The exceptions of one latent."""

    measures: tuple[Measure, ...]
    """Its numbers."""
    concept: str
    """The kind of tokens that its firing fits best."""
    runner_up: str
    """The one that fits next best."""
    fit: float
    """F1 of "it fires" as an answer to that kind."""
    chance_fit: float
    """The best that a latent would reach that fires as often, anywhere."""
    probe_f1: float
    """F1 of a probe for the kind on held-out tokens: whether the model knows it."""
    tokens: pd.DataFrame
    """Tokens of the kind at which it seldom fires: `token`, `n`, `fires`, `full` (share carried by
    another latent alone), `absorber`."""
    absorbers: pd.DataFrame
    """Latents that fire instead: `latent`, `positions`, `tokens`, `share`, `description`."""

    @property
    def fits(self) -> bool:
        """Whether the kind says anything of the latent: F1 of 0.4 or more, and twice chance."""
        return self.fit >= max(2 * self.chance_fit, LEAST_FIT)


def hides_section(shared: Shared, latent: int) -> Hides:
    """The section of a latent. Raises ValueError as `exceptions_of`."""
    sites, vocabulary, concepts = sites_of(shared)
    shared.lease.progress.update(0, None, message="Comparing the latent with kinds of tokens")
    found = exceptions_of(sites, latent, concepts, seed=shared.request.seed)
    return _section(shared, found, vocabulary)


def sites_of(shared: Shared) -> tuple[Sites, np.ndarray, list[Concept]]:
    """Positions, vocabulary and concepts, read once for all latents of an SAE."""
    return shared.once("sites", lambda: _read(shared))


def _read(shared: Shared) -> tuple[Sites, np.ndarray, list[Concept]]:
    request = shared.request
    tokens = min(SITE_TOKENS, request.tokens)
    wanted = AbsorptionRequest(request.model, (request.sae,), request.corpus, tokens)
    sites, vocabulary, _ = read_sites(shared.lease, shared.store, wanted)
    concepts, _ = find_concepts(shared.lease, shared.store, wanted, sites)
    return sites, vocabulary, concepts


def _section(shared: Shared, found: Exceptions, vocabulary: np.ndarray) -> Hides:
    tokens = found.tokens.sort_values(["fires", "n"], ascending=[True, False], kind="stable")
    shown = tokens.head(_MOST)
    absorbers = found.absorbers.head(_MOST)
    texts: list[str] = []
    if len(absorbers):
        texts = list(described(shared, shared.own, absorbers["latent"].tolist())["text"])
    return Hides(
        measures=(
            Measure(
                "fit",
                f"How well its firing fits “{found.concept}” (F1)",
                found.fit,
                n=int(found.n_hits),
                of="positions of that kind that a probe finds",
                latents=(found.chance_fit,),
            ),
            share(
                "covers",
                f"Positions of “{found.concept}” at which it fires",
                found.fires,
                found.n_hits,
                "positions of that kind that a probe finds",
            ),
            Measure(
                "absorbed",
                "Of these, positions that one other latent carries alone",
                found.full.value,
                found.full.low,
                found.full.high,
                found.n_hits,
                "positions",
                is_share=True,
            ),
        ),
        concept=found.concept,
        runner_up=found.runner_up,
        fit=found.fit,
        chance_fit=found.chance_fit,
        probe_f1=found.probe_f1,
        tokens=pd.DataFrame(
            {
                "token": vocabulary[shown["token"]],
                "n": shown["n"].to_numpy(),
                "fires": shown["fires"].to_numpy(float),
                "full": shown["full"].to_numpy(float),
                "absorber": shown["absorber"].to_numpy(),
            }
        ),
        absorbers=absorbers.assign(description=texts)[
            ["latent", "positions", "tokens", "share", "description"]
        ].reset_index(drop=True),
    )
