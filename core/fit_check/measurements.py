"""What was measured of an SAE on this machine, by the fit check and by passes over a text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.activations.index_figures import IndexFigures

if TYPE_CHECKING:  # brings torch
    from core.fit_check.on_text import FitOnText


@dataclass(frozen=True)
class Measurement:
    """One figure that was measured here."""

    value: float
    """The figure."""
    n_tokens: int
    """Tokens that it rests on."""
    text: str
    """Name of the text."""
    low: float | None = None
    """Lower end of its 95 % interval, where there is one."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True)
class Measurements:
    """Figures of one SAE; None where nothing was measured."""

    l0: Measurement | None = None
    """Active latents a token."""
    explained_variance: Measurement | None = None
    """Share of the variance that it reproduces."""
    loss_recovered: Measurement | None = None
    """Share of the loss kept."""
    dead_fraction: Measurement | None = None
    """Share of latents that were never active."""


def combine_measurements(index: IndexFigures | None, fit: "FitOnText | None") -> Measurements:
    """The figures together; L0 and dead share from whichever read more tokens."""
    check = fit.check if fit is not None else None
    if check is None or fit is None:
        found = Measurements()
    else:
        n, recovered = check.n_tokens, check.loss_recovered
        found = Measurements(
            l0=Measurement(check.l0.value, n, fit.text, check.l0.low, check.l0.high),
            explained_variance=None
            if check.fvu is None
            else Measurement(
                1 - check.fvu.value, n, fit.text, 1 - check.fvu.high, 1 - check.fvu.low
            ),
            loss_recovered=None
            if recovered is None
            else Measurement(
                recovered.value, check.loss_tokens, fit.text, recovered.low, recovered.high
            ),
            dead_fraction=Measurement(check.dead_fraction, n, fit.text),
        )
    if index is None or (found.l0 is not None and found.l0.n_tokens > index.n_tokens):
        return found
    return Measurements(
        l0=Measurement(index.l0, index.n_tokens, index.text),
        explained_variance=found.explained_variance,
        loss_recovered=found.loss_recovered,
        dead_fraction=Measurement(index.dead_fraction, index.n_tokens, index.text),
    )
