"""What a concept is true of, at given positions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from core.absorption.sites import Sites
from core.enrichment.token_sets import NamedTokens

LEAST_TOKENS = 20
"""Different tokens that a concept must be true of, and false of."""
_MORE = {
    "tokens": "read a longer text or choose a larger set",
    "texts": "add texts to its list",
}


@dataclass(frozen=True, eq=False)
class Concept:
    """Labelled positions."""

    name: str
    """What the positions have in common."""
    group: str
    """Kind of concept, such as "first letter"."""
    label: Bool[np.ndarray, " n"]
    """Where it is true."""


def check_concept(concept: Concept, sites: Sites, *, least: int = LEAST_TOKENS) -> None:
    """Raise ValueError, with the remedy, for a concept that nothing can be said of."""
    if len(concept.label) != len(sites.token):
        raise ValueError(
            f"{concept.name!r} labels {len(concept.label):,} positions of {len(sites.token):,}; "
            "give a label for each."
        )
    true, false = (len(np.unique(sites.token[it])) for it in (concept.label, ~concept.label))
    if true < least:
        raise ValueError(
            f"{concept.name!r} is true of {true} different {sites.unit} here, and {least} are "
            f"needed; {_MORE.get(sites.unit, _MORE['tokens'])}."
        )
    if false < least:
        raise ValueError(
            f"{concept.name!r} is false of only {false} different {sites.unit} here, and {least} "
            "are needed; choose a concept that is not true of nearly everything."
        )


def token_concepts(
    sets: Iterable[NamedTokens], sites: Sites, *, least: int = LEAST_TOKENS
) -> tuple[list[Concept], dict[str, str]]:
    """A concept for each set of tokens, and why others are left out, by name."""
    found, left_out = [], {}
    for it in sets:
        concept = Concept(it.name, it.group, np.isin(sites.token, it.ids))
        try:
            check_concept(concept, sites, least=least)
        except ValueError as error:
            left_out[it.name] = str(error)
        else:
            found.append(concept)
    return found, left_out


def latent_concept(sites: Sites, latent: int, *, name: str = "") -> Concept:
    """The positions at which a latent of the second SAE of `sites` fires, as a concept.

    Raises ValueError where there is no second SAE or no such latent.
    """
    if sites.others is None:
        raise ValueError("There is no second SAE here; read the text with a narrower one as well.")
    if not 0 <= latent < sites.others.shape[1]:
        raise ValueError(f"There is no latent {latent}; choose 0 to {sites.others.shape[1] - 1}.")
    fires = np.asarray(sites.others[:, [latent]].todense()).ravel() > 0
    return Concept(name or f"latent {latent} of the narrower SAE", "latent", fires)
