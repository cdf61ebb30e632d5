"""What the rules of the verdict share: their answers, and numbers in words."""

import math
from typing import Literal

from core.dossier.measure import Measure
from core.dossier.result import Dossier

Stand = Literal["agrees", "disagrees", "silent"]
"""What a line of evidence says of the explanation."""
FEW = 10
"""Examples below which little can be said."""
Found = tuple[Stand, str, str]
"""Stand, why, and what would change it, to follow "if"."""


def silent(why: str, change: str) -> Found:
    """A line that says nothing."""
    return "silent", why, change


def not_there(dossier: Dossier, part: str) -> Found:
    """The line of a section that is not there."""
    reason = dossier.not_run.get(part)
    if reason is not None:
        return silent(f"Not run: {reason}", "this part could be run")
    return silent("Not computed yet.", "this part were computed")


def number(measure: Measure) -> str:
    """A value in words."""
    return f"{measure.value:.0%}" if measure.is_share else f"{measure.value:.3g}"


def interval(measure: Measure) -> str:
    """Its interval in words."""
    if not (math.isfinite(measure.low) and math.isfinite(measure.high)):
        return "(no interval)"
    if measure.is_share:
        return f"({measure.low:.0%}–{measure.high:.0%})"
    return f"({measure.low:.3g} to {measure.high:.3g})"


def beside(measure: Measure, p: float) -> str:
    """What random directions give, in words."""
    if not math.isfinite(p):
        return "no random direction to compare with"
    mean = measure.chance()
    shown = f"{mean:.0%}" if measure.is_share else f"{mean:.3g}"
    return f"random directions {shown}, {p:.0%} of them reach it"
