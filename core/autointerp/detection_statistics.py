"""How good predictions are, beside what no knowledge at all would score.

A detection set of 4 active and 8 inactive examples gives 0.667 to whoever always answers "None".
So an accuracy is never shown without that baseline, and balanced accuracy, for which every constant
answer scores 0.5, is the figure to compare latents by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float

N_RESAMPLES = 2000


@dataclass(frozen=True)
class DetectionStatistics:
    """Figures of one set of predictions; NaN where there is nothing to divide by.

    Without an active example, or without an inactive one, nothing can be told apart: then all but
    the counts and the two accuracies are NaN. Intervals are NaN where they would rest on drawing
    one and the same example again.
    """

    n: int
    """Examples."""
    n_active: int
    """Of these, truly active."""
    n_predicted: int
    """Predicted to be active."""
    accuracy: float
    """Share told right."""
    all_none: float
    """Accuracy of answering "None"."""
    balanced_accuracy: float
    """Mean of the shares told right among active and among inactive examples; chance is 0.5."""
    precision: float
    """Share of the predicted that are active."""
    recall: float
    """Share of the active that are predicted."""
    f1: float
    """Harmonic mean of the two."""
    accuracy_low: float
    """Lower end of the 95% bootstrap interval of the accuracy."""
    accuracy_high: float
    """Upper end."""
    balanced_low: float
    """Lower end of that of the balanced accuracy, active and inactive resampled apart."""
    balanced_high: float
    """Upper end."""
    f1_low: float
    """Lower end of that of F1, resampled likewise; draws without a positive are left out."""
    f1_high: float
    """Upper end."""


def why_no_score(active: Sequence[bool] | Bool[np.ndarray, " n"]) -> str:
    """Why a test set allows no score, in a sentence; "" where it has examples of both kinds."""
    n_active = int(np.sum(np.asarray(active, dtype=bool)))
    if n_active == 0:
        return "No score: the test set had no positives (examples in which the latent is active)."
    if n_active == len(active):
        return "No score: the test set had no negatives (examples in which the latent is silent)."
    return ""


def counts_without_score(
    active: Sequence[bool] | Bool[np.ndarray, " n"],
) -> dict[str, float | None]:
    """The figures of a test set that allows no score: how many examples there are, and None."""
    counts = {"n": len(active), "n_active": int(np.sum(np.asarray(active, dtype=bool)))}
    return {field.name: counts.get(field.name) for field in fields(DetectionStatistics)}


def without_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """The same with None for NaN, which JSON does not have."""
    return {name: None if value != value else value for name, value in numbers.items()}


def detection_statistics(
    active: Sequence[bool] | Bool[np.ndarray, " n"],
    predicted: Sequence[bool] | Bool[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> DetectionStatistics:
    """Compare predictions with the truth.

    Raises:
        ValueError: no examples, or lengths that differ.
    """
    truth, guess = np.asarray(active, dtype=bool), np.asarray(predicted, dtype=bool)
    if truth.ndim != 1 or truth.shape != guess.shape or len(truth) == 0:
        raise ValueError(
            f"The truth has the shape {truth.shape} and the predictions {guess.shape}; give one "
            "of each for every example."
        )
    right = truth == guess
    hits = int((truth & guess).sum())
    n_active, n_predicted = int(truth.sum()), int(guess.sum())
    n_inactive = len(truth) - n_active
    both = n_active > 0 and n_inactive > 0
    rng = np.random.default_rng(seed)
    accuracies = _resampled_means(right, rng)
    balanced = (_resampled_means(right[truth], rng) + _resampled_means(right[~truth], rng)) / 2
    f1_low, f1_high = _f1_interval(truth, guess, rng)
    nothing = float("nan"), float("nan")
    low, high = np.quantile(accuracies, [0.025, 0.975]) if len(truth) > 1 else nothing
    balanced_low, balanced_high = np.quantile(balanced, [0.025, 0.975])
    if min(n_active, n_inactive) < 2:
        balanced_low, balanced_high = f1_low, f1_high = nothing
    return DetectionStatistics(
        n=len(truth),
        n_active=n_active,
        n_predicted=n_predicted,
        accuracy=float(right.mean()),
        all_none=float((~truth).mean()),
        balanced_accuracy=(_mean(right[truth]) + _mean(right[~truth])) / 2,
        precision=hits / n_predicted if n_predicted and both else float("nan"),
        recall=hits / n_active if both else float("nan"),
        f1=2 * hits / (n_active + n_predicted) if both else float("nan"),
        accuracy_low=float(low),
        accuracy_high=float(high),
        balanced_low=float(balanced_low),
        balanced_high=float(balanced_high),
        f1_low=f1_low,
        f1_high=f1_high,
    )


def _mean(values: Bool[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _f1_interval(
    truth: Bool[np.ndarray, " n"], guess: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[float, float]:
    n_active, n_inactive = int(truth.sum()), int((~truth).sum())
    hits = rng.binomial(n_active, guess[truth].mean() if n_active else 0.0, N_RESAMPLES)
    false = rng.binomial(n_inactive, guess[~truth].mean() if n_inactive else 0.0, N_RESAMPLES)
    below = n_active + hits + false
    if not below.any():
        return float("nan"), float("nan")
    f1 = 2 * hits[below > 0] / below[below > 0]
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def _resampled_means(
    values: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, " n_resamples"]:
    if len(values) == 0:
        return np.full(N_RESAMPLES, np.nan)
    # How many of n draws with replacement are right is binomial: no draw has to be made.
    return rng.binomial(len(values), values.mean(), N_RESAMPLES) / len(values)
