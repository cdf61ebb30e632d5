"""One number of a dossier: its interval, what it was counted on, and what chance gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from scipy import stats

LEVEL = 0.05
"""Share of controls that may do as well as a latent that counts as beyond them."""


class Controls(TypedDict, total=False):
    """What controls give, as keywords of `Measure`."""

    latents: tuple[float, ...]
    """Random latents."""
    directions: tuple[float, ...]
    """Random directions."""


@dataclass(frozen=True)
class Measure:
    """A number with everything that is needed to believe it."""

    name: str
    """What it is called in tables and rules."""
    title: str
    """What it says, in words."""
    value: float
    """The number; NaN where it cannot be told."""
    low: float = math.nan
    """Lower end of its 95 % interval; NaN where there is none."""
    high: float = math.nan
    """Upper end."""
    n: int = 0
    """How many it was counted on."""
    of: str = ""
    """What was counted."""
    latents: tuple[float, ...] = ()
    """The same of random latents of the SAE that fire about as often."""
    directions: tuple[float, ...] = ()
    """The same of random directions that fire about as often."""
    is_share: bool = False
    """Whether it is a share, to be shown in per cent."""

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.value)

    def p(self, controls: str = "directions", *, above: bool = True) -> float:
        """Share of controls, the latent counted in, that reach the value; NaN without controls.

        With `above` false, share of those at or below it.
        """
        others = [it for it in getattr(self, controls) if math.isfinite(it)]
        if not others or not self.known:
            return math.nan
        hits = sum(it >= self.value if above else it <= self.value for it in others)
        return (1 + hits) / (len(others) + 1)

    def chance(self, controls: str = "directions") -> float:
        """Mean of the controls; NaN without any."""
        others = [it for it in getattr(self, controls) if math.isfinite(it)]
        return sum(others) / len(others) if others else math.nan


def share(
    name: str, title: str, hits: int, n: int, of: str, **controls: Unpack[Controls]
) -> Measure:
    """A share with its Wilson interval; NaN of nothing."""
    low, high = wilson(hits, n)
    return Measure(
        name,
        title,
        hits / n if n else math.nan,
        low,
        high,
        n,
        of,
        is_share=True,
        **controls,
    )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Both ends of the 95 % interval of a share; NaN for none of nothing."""
    if n < 1:
        return math.nan, math.nan
    found = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def named(measures: Sequence[Measure], name: str) -> Measure | None:
    """The measure of that name, or None."""
    return next((it for it in measures if it.name == name), None)
