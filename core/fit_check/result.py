"""What a fit check found: figures with intervals, other inputs that fit, and sentences."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.fit_check.sums import Figure


@dataclass(frozen=True)
class Fit:
    """How well one input fits, on the positions that all alternatives are compared on."""

    words: str
    """What is read, to follow "it fits better"."""
    hook_name: str
    """Site that is read."""
    fvu: Figure
    """Fraction of variance unexplained."""
    l0: float
    """Active latents a position."""
    change: str = ""
    """`with BOS` or `without BOS` where that is what differs."""
    normalisation: str = ""
    """sae_lens' `normalize_activations` that says so, where there is one and it is what differs."""
    surely_better: bool = False
    """Whether it beats the SAE's own site in nearly all resamples of the rows."""


@dataclass(frozen=True)
class FitCheck:
    """What was measured, and what it means."""

    hook_name: str
    """Site that was read."""
    hook_name_out: str
    """Site that was to be written; the same but for transcoders."""
    n_tokens: int
    """Positions that counted."""
    l0: Figure
    """Active latents a position."""
    fvu: Figure | None
    """Fraction of variance unexplained; None for an SAE that writes elsewhere, or no variance."""
    dead_fraction: float
    """Share of latents that were never active on these positions."""
    loss_recovered: Figure | None
    """(zero-ablated − with the SAE) / (zero-ablated − clean); None where it was not measured."""
    loss_tokens: int
    """Tokens whose prediction that rests on."""
    own: Fit | None
    """The SAE's own site on the positions of the comparison."""
    compared_tokens: int = 0
    """Positions of the comparison, fewer than counted."""
    alternatives: tuple[Fit, ...] = ()
    """Those that fit best, best first."""
    declared_l0: float | None = None
    """What was published or saved with it."""
    warnings: tuple[str, ...] = field(default=())
    """Sentences: why it looks as if it were read at the wrong place."""
    notes: tuple[str, ...] = field(default=())
    """Sentences: what could not be judged, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None; `from_json` reads them."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FitCheck":
        """What `to_json` wrote. Raises TypeError or KeyError for anything else."""
        figures = {name: _figure(values[name]) for name in ("l0", "fvu", "loss_recovered")}
        fits = [_fit(alternative) for alternative in values["alternatives"]]
        others = {"own": _fit(values["own"]), "alternatives": tuple(fits)}
        texts = {name: tuple(values[name]) for name in ("warnings", "notes")}
        return cls(**{**values, **figures, **others, **texts})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _figure(values: dict[str, float] | None) -> Figure | None:
    return None if values is None else Figure(**values)


def _fit(values: dict[str, Any] | None) -> Any:
    return None if values is None else Fit(**{**values, "fvu": _figure(values["fvu"])})
