"""Train a BatchTopK SAE on decoder rows, in steps that touch only what is active.

Of a batch of B rows the B·k largest pre-activations stay. A dense step looks for them among all,
writes with a matrix product of the width, and goes back through both; here they are looked up above
a lower bound, and the rest of the step costs as much as there are active entries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array

from core.meta_sae.adam import Adam
from core.meta_sae.config import LEAST_ROWS, MetaConfig
from core.meta_sae.meta import MetaSae

_SILENT = 200
"""Batches after which a meta-latent that never fired begins anew."""
_MARGIN = 0.7
_TELL, _KEEP = 25, 250
_GATHERED = 1024


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training that was stopped; it goes on as if it had not been, to the bit."""

    step: int
    """Steps done."""
    bound: float
    """Lower bound on the activations of the next batch."""
    arrays: Mapping[str, np.ndarray]
    """Weights, moments, silent batches, and the state of the random numbers."""


def train_meta_sae(
    rows: Float[np.ndarray, "n d"],
    config: MetaConfig | None = None,
    *,
    check: Callable[[int], None] | None = None,
    keep: Callable[[Checkpoint], object] | None = None,
    start: Checkpoint | None = None,
) -> MetaSae:
    """A meta-SAE of `rows` (of length 1 where lengths are not to count); the same seed gives the
    same result.

    `check(n)` is called every 25 steps with the number done and may raise; `keep` then gets what
    was reached, and every 250 steps besides; `start` is such a checkpoint of the same rows and
    settings.

    Raises:
        ValueError: fewer than 20 rows, or rows that are not finite.
    """
    config = config or MetaConfig()
    if len(rows) < LEAST_ROWS or not np.isfinite(rows).all():
        raise ValueError(
            f"There are {len(rows)} decoder rows, not all of them finite perhaps; a meta-SAE takes "
            f"at least {LEAST_ROWS} finite ones, so choose a wider SAE."
        )
    training = _Training(np.ascontiguousarray(rows, dtype=np.float32), config, start)
    for step in range(training.n_steps, config.steps):
        if step % _TELL == 0:
            try:
                if check is not None:
                    check(step)
            except BaseException:
                if keep is not None and step:
                    keep(training.checkpoint())
                raise
        if keep is not None and step % _KEEP == 0 and step > training.started:
            keep(training.checkpoint())
        training.step()
    return training.finished()


class _Training:
    """Weights and moments between two steps; rows of all arrays are meta-latents."""

    def __init__(self, data: np.ndarray, config: MetaConfig, start: Checkpoint | None) -> None:
        self._config = config
        self._mean = data.mean(0)
        self._centred = data - self._mean
        self._generator = torch.Generator().manual_seed(config.seed)
        width = config.width(len(data))
        drawn = torch.randn(width, data.shape[1], generator=self._generator)
        W_dec = (drawn / drawn.norm(dim=1, keepdim=True)).numpy()
        self._arrays = {"enc": W_dec.copy(), "bias": np.zeros(width, np.float32), "dec": W_dec}
        self._adam = Adam(self._arrays, lr=config.lr, beta2=config.beta2)
        self._silent = np.zeros(width, np.int64)
        self._bound = 0.0
        if start is not None:
            self._restore(start)
        self.started = self.n_steps

    @property
    def n_steps(self) -> int:
        """Steps done."""
        return self._adam.n_steps

    def step(self) -> None:
        """One batch."""
        config, arrays = self._config, self._arrays
        chosen = torch.randint(len(self._centred), (config.batch,), generator=self._generator)
        x = self._centred[chosen.numpy()]
        acts = _largest(self._scores(x), config.batch * config.k, self._bound)
        self._bound = _MARGIN * float(acts.data.min()) if acts.nnz else 0.0
        error = acts @ arrays["dec"] - x
        gradient = error * np.float32(2 / len(x))
        pull = _products(gradient, arrays["dec"], acts)
        back = csr_array((pull, acts.indices, acts.indptr), shape=acts.shape)
        of_dec = acts.T @ gradient
        # What would only change a row's length is taken out: rows keep length 1.
        of_dec -= np.einsum("md,md->m", of_dec, arrays["dec"])[:, None] * arrays["dec"]
        of_bias = np.bincount(acts.indices, pull, minlength=len(arrays["bias"]))
        self._adam.step({"enc": back.T @ x, "bias": of_bias.astype(np.float32), "dec": of_dec})
        lengths = np.linalg.norm(arrays["dec"], axis=1, keepdims=True)
        arrays["dec"] /= np.maximum(lengths, 1e-12)
        self._silent += 1
        self._silent[acts.indices] = 0
        lost = np.flatnonzero(self._silent > _SILENT)
        if len(lost) and self.n_steps <= 0.8 * config.steps:
            self._begin_anew(lost, error)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        weights, bias = (torch.from_numpy(self._arrays[name]) for name in ("enc", "bias"))
        return torch.addmm(bias, torch.from_numpy(x), weights.T).numpy()

    def _begin_anew(self, lost: np.ndarray, error: np.ndarray) -> None:
        """Silent meta-latents take the direction of what is explained worst."""
        badness = torch.from_numpy((error**2).sum(1) + 1e-12)
        worst = torch.multinomial(
            badness, len(lost), replacement=True, generator=self._generator
        ).numpy()
        lengths = np.linalg.norm(error[worst], axis=1, keepdims=True)
        direction = -error[worst] / np.maximum(lengths, 1e-12)
        self._arrays["dec"][lost] = self._arrays["enc"][lost] = direction
        self._arrays["bias"][lost] = 0.0
        self._adam.forget(lost)
        self._silent[lost] = 0

    def checkpoint(self) -> Checkpoint:
        """All that the next steps depend on, as copies."""
        arrays = {f"{kind}.{name}": array.copy() for kind, name, array in self._all()}
        arrays["silent"] = self._silent.copy()
        arrays["random"] = self._generator.get_state().numpy().copy()
        return Checkpoint(self.n_steps, self._bound, arrays)

    def _restore(self, start: Checkpoint) -> None:
        for kind, name, array in self._all():
            array[...] = start.arrays[f"{kind}.{name}"]
        self._silent = start.arrays["silent"].copy()
        self._generator.set_state(torch.from_numpy(start.arrays["random"].copy()))
        self._bound, self._adam.n_steps = start.bound, start.step

    def _all(self) -> list[tuple[str, str, np.ndarray]]:
        kinds = {"value": self._arrays, "first": self._adam.first, "second": self._adam.second}
        return [(kind, name, it) for kind, found in kinds.items() for name, it in found.items()]

    def finished(self) -> MetaSae:
        """The meta-SAE, with the threshold from which as many are active as in training."""
        arrays, most = self._arrays, len(self._centred) * self._config.k
        kept = np.zeros(0, np.float32)
        for at in range(0, len(self._centred), 1024):
            scores = self._scores(self._centred[at : at + 1024])
            kept = np.concatenate([kept, scores[scores > 0]])
            if len(kept) > most:
                kept = np.partition(kept, len(kept) - most)[len(kept) - most :]
        # Just below the smallest that stays: "above the threshold" has to hold for it.
        least = float(np.nextafter(kept.min(), np.float32(-1))) if len(kept) else 0.0
        W_enc = np.ascontiguousarray(arrays["enc"].T)
        return MetaSae(W_enc, arrays["bias"], arrays["dec"], self._mean, max(0.0, least))


def _products(x: np.ndarray, rows: np.ndarray, where: csr_array) -> np.ndarray:
    """x[i] · rows[j] for each entry (i, j) of `where`, in its order."""
    at = np.repeat(np.arange(len(x)), np.diff(where.indptr))
    found = np.empty(where.nnz, np.float32)
    for start in range(0, where.nnz, _GATHERED):  # so many stay in the processor's cache
        some = slice(start, start + _GATHERED)
        np.einsum("nd,nd->n", x[at[some]], rows[where.indices[some]], out=found[some])
    return found


def _largest(scores: Float[np.ndarray, "n width"], most: int, bound: float) -> csr_array:
    """The largest positive scores, at most so many, as a sparse matrix."""
    flat = scores.ravel()
    for least in (max(0.0, bound), 0.0):
        place = np.flatnonzero(flat > least)
        if len(place) >= most or least == 0:
            break
    value = flat[place]
    if len(value) > most:
        kept = np.sort(np.argpartition(value, len(value) - most)[len(value) - most :])
        place, value = place[kept], value[kept]
    row, latent = np.divmod(place, scores.shape[1])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(scores)))])
    return csr_array((value, latent, indptr), shape=scores.shape)
