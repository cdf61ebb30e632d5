"""The direction along which a model has a concept: logistic regression, many concepts at once."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

_STEPS = 60
_DECAY = 1e-3


@dataclass(frozen=True, eq=False)
class Probe:
    """One concept's probe: it says yes where `x @ direction > cut`."""

    direction: Float[np.ndarray, " d"]
    """Of length 1 (float32)."""
    cut: float
    """The projection from which on it says yes: best F1 on the tokens it was fitted on."""
    f1: float
    """On tokens that were held out."""
    auroc: float
    """On the same; 0.5 is chance."""


def fit_probes(
    x: Float[np.ndarray, "n d"],
    labels: Bool[np.ndarray, "n concepts"],
    train: Bool[np.ndarray, " n"],
) -> list[Probe]:
    """A probe for each column of `labels`, fitted where `train` and judged on the rest.

    Both classes of a concept weigh the same in the fit (positives by negatives / positives, as in
    SAEBench); where "yes" begins is chosen by F1 on the training positions. Repeats to the bit.
    """
    data = torch.from_numpy(x[train]).float()
    scale = data.std(0).clamp_min(1e-6)
    mean = data.mean(0)
    data = (data - mean) / scale
    target = torch.from_numpy(labels[train]).float()
    positive = target.mean(0).clamp(1e-6, 1 - 1e-6)
    weight = (1 - positive) / positive
    W = torch.zeros(x.shape[1], labels.shape[1], requires_grad=True)
    b = torch.zeros(labels.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([W, b], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        each = F.binary_cross_entropy_with_logits(
            data @ W + b, target, pos_weight=weight, reduction="none"
        ).mean(0)
        whole = (each / (2 * (1 - positive))).sum() + _DECAY * W.pow(2).sum()
        whole.backward()
        return whole

    with torch.enable_grad():
        optimiser.step(loss)
    directions = (W.detach() / scale[:, None]).numpy()
    directions = directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-12)
    scores = x @ directions
    found = []
    for column in range(labels.shape[1]):
        label, score = labels[:, column], scores[:, column]
        cut = best_cut(score[train], label[train])
        test_label, test_score = label[~train], score[~train]
        found.append(
            Probe(
                directions[:, column].astype(np.float32),
                cut,
                f1_of(test_score > cut, test_label),
                auroc(test_score, test_label),
            )
        )
    return found


def held_out(token: Int[np.ndarray, " n"], *, share: float = 0.2, seed: int = 0) -> np.ndarray:
    """Which positions to fit on, bool [n]: those of 1 - `share` of the tokens, drawn."""
    ids = np.unique(token)
    n = max(1, round(len(ids) * share))
    out = np.random.default_rng(seed).permutation(ids)[:n]
    return ~np.isin(token, out)


def best_cut(score: Float[np.ndarray, " n"], label: Bool[np.ndarray, " n"]) -> float:
    """The score above which "yes" has the highest F1."""
    order = np.argsort(-score, kind="stable")
    hits = label[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(score) + 1) + label.sum())
    at = int(f1.argmax())
    below = score[order[min(at + 1, len(score) - 1)]]
    return float((score[order[at]] + below) / 2)


def f1_of(said: Bool[np.ndarray, " n"], label: Bool[np.ndarray, " n"]) -> float:
    """F1 of the answers; 0 where nothing is true."""
    both = (said & label).sum()
    whole = said.sum() + label.sum()
    return float(2 * both / whole) if whole else 0.0


def auroc(score: Float[np.ndarray, " n"], label: Bool[np.ndarray, " n"]) -> float:
    """Area under the curve; NaN where one class is missing."""
    n, m = int(label.sum()), int((~label).sum())
    if n == 0 or m == 0:
        return float("nan")
    return float((rankdata(score)[label].sum() - n * (n + 1) / 2) / (n * m))
