"""Everything that is said of one latent, by whom and how well it predicts; the best first."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

BALANCED = "balanced accuracy"
"""The one measure by which texts of several authors are compared; 0.5 is chance."""


@dataclass(frozen=True)
class Said:
    """One text about a latent."""

    text: str
    """The text."""
    author: str
    """Who says so, in words that begin a sentence."""
    score: float = math.nan
    """How well it was found to predict the latent; NaN where that was not measured."""
    measure: str = "score"
    """What the score is."""
    low: float = math.nan
    """Lower end of the score's 95 % interval; NaN where there is none."""
    high: float = math.nan
    """Upper end."""
    n: int | None = None
    """Examples that it was scored with."""
    own: bool = False
    """Whether a reader wrote it, who is not contradicted."""

    def credit(self) -> str:
        """Author and score as a sentence."""
        if math.isnan(self.score):
            return f"{self.author}; not scored."
        interval = "" if math.isnan(self.low) else f" ({self.low:.2f}–{self.high:.2f})"
        on = "" if self.n is None else f" on {self.n} examples"
        chance = ", chance is 0.5" if self.measure == BALANCED else ""
        return f"{self.author}; {self.measure} {self.score:.2f}{interval}{on}{chance}."


def best_first(said: Iterable[Said]) -> tuple[Said, ...]:
    """Readers' own texts, then by balanced accuracy, then by other scores, then those without.

    Of equal texts (but for case and spaces) the first in that order stays.
    """

    def rank(one: Said) -> tuple[bool, bool, bool, float]:
        unscored = math.isnan(one.score)
        return not one.own, unscored, one.measure != BALANCED, 0.0 if unscored else -one.score

    kept: dict[str, Said] = {}
    for one in sorted(said, key=rank):
        kept.setdefault(" ".join(one.text.casefold().split()).rstrip("."), one)
    return tuple(kept.values())
