"""What was found of one concept in one SAE."""

from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from core.fit_check.sums import Figure


@dataclass(frozen=True)
class Rates:
    """Absorption with one set of labels, latents and probe."""

    full: float
    """Share of the probe's true positives that are fully absorbed."""
    fraction: float
    """Mean absorption fraction over them."""
    n: int
    """True positives."""


@dataclass(frozen=True, eq=False)
class ConceptResult:
    """One concept."""

    name: str
    """What it is."""
    group: str
    """Kind of concept."""
    n_tokens: int
    """Different tokens that it is true of."""
    n_positions: int
    """Positions that it is true of."""
    f1: float
    """F1 of the probe on held-out tokens."""
    auroc: float
    """AUROC of the probe on the same."""
    represented: bool
    """Whether the model has the concept at all: the probe's F1 is above the bound."""
    latents: Int[ndarray, " most"]
    """Latents in the order in which the k-sparse probe takes them."""
    sparse_f1: Float[ndarray, " most"]
    """F1 with the first k of them, on held-out tokens."""
    mains: tuple[int, ...]
    """The concept's own latents."""
    recall: float
    """Share of the probe's true positives at which one of them fires."""
    hedging: float
    """Share of the negatives at which one of them fires."""
    full: Figure
    """Share of true positives fully absorbed; 95 % interval by bootstrap over tokens."""
    fraction: Figure
    """Mean absorption fraction; likewise."""
    n_hits: int
    """The probe's true positives."""
    shuffled: Rates
    """The same with a random set of as many tokens as the concept. Such a set has no latent of its
    own, so what its probe finds is mostly "absorbed": a rate means nothing where the model does not
    have the concept."""
    shuffled_f1: float
    """F1 of that set's probe on held-out tokens: how far labels without meaning get."""
    random_sae: Rates
    """The same in an SAE of random directions with the same L0."""
    random_direction: Rates
    """The same along random directions instead of the probe's (mean of several)."""
    tokens: pd.DataFrame
    """A row for each token that it is true of: `token` (id), `n` (true positives of the probe),
    `score` (mean projection beyond the probe's cut), `fires` (share at which a main latent does),
    `full` (share fully absorbed), `fraction`, `absorber` (latent that absorbs most often, -1 for
    none)."""
    examples: pd.DataFrame
    """Some absorbed positions of the latents that absorb most: `latent`, `place` (as
    `Sites.place`; none where positions are of no text)."""
    absorbers: pd.DataFrame
    """A row for each absorbing latent: `latent`, `positions` (fully absorbed), `tokens` (different
    ones), `share` (mean share of the projection that it carries), `cosine` (with the probe)."""
