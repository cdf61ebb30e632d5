"""Texts of the held-out sample with a latent's activations: the worst mistakes of a prediction."""

import numpy as np
from jaxtyping import Float

from core.dossier.hypothesis import Prediction
from core.dossier.shared import Sample, Units
from core.dossier.texts import ACTIVE
from core.latent.examples import ExampleRow
from core.tokens import texts_of_row

_WORST = 8
_AROUND = 12
_PER_SPELLING = 2


def worst_mistakes(
    units: Units, found: Prediction, latent: int
) -> tuple[tuple[ExampleRow, ...], tuple[ExampleRow, ...]]:
    """Where a prediction is wrong: what it names and the latent is silent at, commonest spellings
    first; and where the latent fires unforeseen, the strongest first."""
    sample = units.held_out
    acts = activations_of(sample, latent)
    strongest = np.zeros(len(found.said), np.float32)
    np.maximum.at(strongest, found.unit_of, acts)
    active = strongest > ACTIVE * float(units.whole.peak[latent])
    wrong = np.flatnonzero(found.said & ~active)
    often = np.bincount(found.spelling[wrong], minlength=int(found.spelling.max(initial=0)) + 1)
    # The commonest spelling first, once or twice each; which of them is a matter of the text.
    order = wrong[np.lexsort((wrong, strongest[wrong], -often[found.spelling[wrong]]))]
    silent = _few_each(order, found.spelling)
    left = np.flatnonzero(active & ~found.said)
    missed = _few_each(left[np.argsort(-strongest[left], kind="stable")], found.spelling)

    def position(unit: int) -> int:
        inside = np.arange(*np.searchsorted(found.unit_of, (unit, unit + 1)))
        return int(inside[acts[inside].argmax()])

    return (
        tuple(row_around(units, acts, position(it)) for it in silent),
        tuple(row_around(units, acts, position(it)) for it in missed),
    )


def _few_each(order: np.ndarray, spelling: np.ndarray) -> list[int]:
    taken: dict[int, int] = {}
    chosen = []
    for unit in order.tolist():
        kind = int(spelling[unit])
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] <= _PER_SPELLING:
            chosen.append(unit)
        if len(chosen) == _WORST:
            break
    return chosen


def activations_of(sample: Sample, latent: int) -> Float[np.ndarray, " n_positions"]:
    """A latent's activation at each position of a sample."""
    return np.asarray(sample.firings.latents[:, [latent]].todense()).ravel()


def row_around(
    units: Units, acts: Float[np.ndarray, " n_positions"], at: int, *, around: int = _AROUND
) -> ExampleRow:
    """The text around a position of the held-out sample, with a latent's activations."""
    sample, vocabulary = units.held_out, units.index.vocabulary
    firings, tokens = sample.firings, sample.tokens
    rows = firings.places // firings.context
    low = max(int(np.searchsorted(rows, rows[at])), at - around)
    high = min(int(np.searchsorted(rows, rows[at], side="right")), at + around + 1)
    document = int(tokens.locate(np.array([firings.places[at]], dtype=np.int64))[0][0])
    return ExampleRow.from_parts(
        texts_of_row(vocabulary, firings.tokens[low:high].tolist()).parts,
        acts[low:high].astype(float).tolist(),
        peak=at - low,
        value=f"{acts[at]:.3g}",
        source=tokens.names[document] if 0 <= document < len(tokens.names) else "",
        starts_inside=low > int(np.searchsorted(rows, rows[at])),
        ends_inside=high < int(np.searchsorted(rows, rows[at], side="right")),
    )
