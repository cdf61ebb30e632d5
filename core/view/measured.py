"""What was measured of an SAE on this machine, by the fit check and by passes over a text."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from core.store import JSON, Key, Store

if TYPE_CHECKING:  # brings torch
    import pandas as pd

    from core.view.fit import FitOnText

_VERSION = 1


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
class Measured:
    """Figures of one SAE; None where nothing was measured."""

    l0: Measurement | None = None
    """Active latents a token."""
    explained_variance: Measurement | None = None
    """Share of the variance that it reproduces."""
    loss_recovered: Measurement | None = None
    """Share of the loss kept."""
    dead_fraction: Measurement | None = None
    """Share of latents that were never active."""


@dataclass(frozen=True)
class IndexFigures:
    """What a pass over a text counted."""

    l0: float
    """Active latents a token."""
    dead_fraction: float
    """Share of latents that were never active."""
    n_tokens: int
    """Tokens that counted."""
    text: str
    """Name of the text."""


def remember_index(
    store: Store, key: tuple[str, str, str, str], summary: "pd.DataFrame", n_tokens: int, text: str
) -> None:
    """Note the figures of an index, unless a longer one is noted already.

    `key` is `(model, release, sae_id, version)`, `summary` as `LatentIndex.summary` gives it.
    """
    counts = summary["count"].to_numpy()
    figures = IndexFigures(
        float(counts.sum() / n_tokens), float((counts == 0).mean()), int(n_tokens), text
    )
    known = recall_index(store, key)
    if known is None or known.n_tokens <= figures.n_tokens:
        store.put(_key(key), asdict(figures), JSON)


def recall_index(store: Store, key: tuple[str, str, str, str]) -> IndexFigures | None:
    """Figures of the longest pass over a text; None where there was none."""
    kept: Any = store.get(_key(key), JSON)
    try:
        return None if kept is None else IndexFigures(**kept)
    except TypeError:
        return None


def measured(index: IndexFigures | None, fit: "FitOnText | None") -> Measured:
    """The figures together; L0 and dead share from whichever read more tokens."""
    check = fit.check if fit is not None else None
    if check is None or fit is None:
        found = Measured()
    else:
        n, recovered = check.n_tokens, check.loss_recovered
        found = Measured(
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
    return Measured(
        l0=Measurement(index.l0, index.n_tokens, index.text),
        explained_variance=found.explained_variance,
        loss_recovered=found.loss_recovered,
        dead_fraction=Measurement(index.dead_fraction, index.n_tokens, index.text),
    )


def _key(key: tuple[str, str, str, str]) -> Key:
    return Key("index-figures", _VERSION, {"of": list(key)})
