"""Which few latents carry a concept? The k-sparse probe of SAEBench, with a test at every k."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, csr_array
from scipy.special import expit

from core.absorption.probe import f1_of

JUMP = 0.03
"""How much F1 has to rise for a further latent to count as a part of a split."""
MOST = 10
_CANDIDATES = 128
_STEPS = 60
_L1 = 0.01


@dataclass(frozen=True, eq=False)
class SparseProbe:
    """The latents that carry one concept."""

    latents: Int[np.ndarray, " most"]
    """Latents in the order in which they are taken."""
    f1: Float[np.ndarray, " most"]
    """F1 on held-out tokens with the first k of them, k from 1."""
    n_mains: int
    """How many of them are the concept's own: the last k at which F1 jumps."""

    @property
    def mains(self) -> Int[np.ndarray, " n_mains"]:
        """The concept's own latents; more than one where it has split."""
        return self.latents[: self.n_mains]


def sparse_probe(
    acts: csc_array,
    label: Bool[np.ndarray, " n"],
    train: Bool[np.ndarray, " n"],
    *,
    most: int = MOST,
    jump: float = JUMP,
) -> SparseProbe:
    """The k-sparse probes of a concept, k from 1 to `most`.

    Latents are taken by their weight in a logistic regression with an L1 penalty (of the 128 whose
    mean activation differs most between the classes), the largest positive first; each k has a
    probe of its own, in which both classes weigh the same. F1 is that of held-out tokens. A jump is
    looked for at every k up to `most`, so one at k + 2 is not missed where k + 1 had none.
    """
    candidates = _candidates(acts, label, train, most)
    # Few of them are active at a position: as long as they stay sparse, that is what steps cost.
    some_acts = csr_array(acts[:, candidates], dtype=np.float64)
    scaled = csr_array(some_acts * (1 / _spread(some_acts[train])))
    weights = _l1_weights(scaled[train], label[train])
    order = np.argsort(-weights, kind="stable")[:most]
    dense = scaled[:, order].toarray()
    f1 = []
    for k in range(1, len(order) + 1):
        some = dense[:, :k]
        w, b = _logistic(some[train], label[train])
        f1.append(f1_of(some[~train] @ w + b > 0, label[~train]))
    return SparseProbe(candidates[order], np.array(f1), jumps(f1, jump))


def jumps(f1: list[float], jump: float) -> int:
    """The last k (from 1) at which F1 is more than `jump` above the best of all smaller k."""
    best, last = f1[0], 1
    for k, value in enumerate(f1[1:], start=2):
        if value > best + jump:
            last = k
        best = max(best, value)
    return last


def _candidates(
    acts: csc_array, label: np.ndarray, train: np.ndarray, most: int
) -> Int[np.ndarray, " candidates"]:
    weights = np.where(label & train, 1 / max(1, (label & train).sum()), 0.0)
    weights -= np.where(~label & train, 1 / max(1, (~label & train).sum()), 0.0)
    difference = weights @ acts
    square = (train / train.sum()) @ acts.multiply(acts)
    standard = difference / np.sqrt(np.maximum(square, 1e-12))
    n = min(max(most, _CANDIDATES), acts.shape[1])
    return np.argsort(-standard, kind="stable")[:n]


def _spread(x: csr_array) -> Float[np.ndarray, " k"]:
    """Standard deviation of each column, at least a little."""
    mean, square = (np.asarray(it.mean(0)).ravel() for it in (x, x.multiply(x)))
    return np.maximum(np.sqrt(np.maximum(square - mean**2, 0)), 1e-9)


def _l1_weights(x: csr_array, label: np.ndarray) -> Float[np.ndarray, " k"]:
    """Weights of an L1-penalised logistic regression, by accelerated proximal steps (FISTA)."""
    share = min(max(float(label.mean()), 1e-9), 1 - 1e-9)
    balance = np.where(label, 0.5 / share, 0.5 / (1 - share)) / len(label)
    turned = csr_array(x.T)
    square = (turned @ csr_array(x * balance[:, None])).toarray()
    step = 1 / (0.25 * float(np.linalg.norm(square, 2)) + 0.25)
    w = ahead = np.zeros(x.shape[1])
    b = b_ahead = 0.0
    t = 1.0
    for _ in range(_STEPS):
        error = balance * (expit(x @ ahead + b_ahead) - label)
        new = ahead - step * (turned @ error)
        new = np.sign(new) * np.maximum(np.abs(new) - step * _L1, 0)
        new_b = b_ahead - step * error.sum()
        t_next = (1 + np.sqrt(1 + 4 * t**2)) / 2
        ahead = new + (t - 1) / t_next * (new - w)
        b_ahead = new_b + (t - 1) / t_next * (new_b - b)
        w, b, t = new, new_b, t_next
    return w


def _logistic(x: Float[np.ndarray, "n k"], label: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression with balanced classes and a little ridge, by damped Newton steps."""
    share = min(max(float(label.mean()), 1e-9), 1 - 1e-9)
    balance = np.where(label, 0.5 / share, 0.5 / (1 - share))
    design = np.c_[x, np.ones(len(x))]
    w = np.zeros(design.shape[1])
    ridge = np.eye(design.shape[1])
    ridge[-1, -1] = 1e-6  # sklearn's C = 1, which leaves the intercept alone
    for _ in range(25):
        p = expit(design @ w)
        gradient = design.T @ (balance * (p - label)) + ridge @ w
        curvature = balance * p * (1 - p)
        hessian = design.T @ (design * curvature[:, None]) + ridge
        change = np.linalg.solve(hessian, gradient)
        size = np.abs(change).max()
        w = w - change * min(1.0, 5.0 / max(size, 1e-12))
        if size < 1e-6:
            break
    return w[:-1], float(w[-1])
