"""What the page shows of one SAE."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.absorption.result import ConceptResult


@dataclass(frozen=True, eq=False)
class AbsorptionFound:
    """All concepts in one SAE; tables of tokens have a column `text` as well."""

    results: tuple[ConceptResult, ...]
    """A result for each concept."""
    left_out: Mapping[str, str]
    """Concepts that nothing can be said of, and why."""
    n_sites: int
    """Positions that were looked at."""
    d_sae: int
    """Latents of the SAE."""
    l0: float
    """Active latents at these positions."""
    text: str
    """Name of the text."""
    unit: str
    """What the tables of tokens list: "tokens", or "texts"."""
    note: str = ""
    """What was measured before, in a sentence: how well the model spells."""

    @property
    def represented(self) -> tuple[ConceptResult, ...]:
        """Results of the concepts that the model has."""
        return tuple(it for it in self.results if it.represented)

    def result(self, name: str) -> ConceptResult | None:
        """The result of a concept, or None."""
        return next((it for it in self.results if it.name == name), None)
