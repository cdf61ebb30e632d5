"""What does a latent do to the vocabulary? One latent's effects, and their spread for all of them.

A latent's logits are what a unit of its activation adds to the residual stream
(`core.saes.writes.residual_directions`), times the unembedding.

A latent that writes about one word pushes a few tokens far out: its logits are skewed and have
heavy tails, while those of a random direction are close to a normal distribution (skewness 0,
excess kurtosis 0). As in Bloom and Lin, "Understanding SAE features with the logit lens" (2024).
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.lease import Lease
from core.saes.writes import logit_notes, residual_directions
from core.store import Key
from core.store.dataclass_codec import dataclass_codec
from core.store.fingerprint import fingerprint
from core.store.memory import Memory, ResultStore
from core.tokens import token_text

_VERSION = 2
_PIECE_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}


@dataclass(frozen=True, eq=False)
class LogitMoments:
    """Moments of each latent's logits over the vocabulary, as float64 `[n]`.

    Population moments (`bias=True` in scipy.stats). A direction whose logits are all equal has
    std 0 and NaN for skewness and kurtosis; one that holds NaN or infinity has NaN for all.
    """

    mean: Float[np.ndarray, " n"]
    """Mean logit, per unit of activation."""
    std: Float[np.ndarray, " n"]
    """Standard deviation, in the unit of the logits per unit of activation."""
    skewness: Float[np.ndarray, " n"]
    """Third standardised moment: above 0 where the far tail is of boosted tokens."""
    kurtosis: Float[np.ndarray, " n"]
    """Excess kurtosis, the fourth standardised moment less 3: 0 for a normal distribution."""


_MOMENTS = dataclass_codec(LogitMoments)


@torch.no_grad()
def logit_moments(
    directions: Float[Tensor, "n d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    *,
    chunk_size: int | None = None,
    store: ResultStore | None = None,
    progress: Progress | None = None,
) -> LogitMoments:
    """Mean, standard deviation, skewness and excess kurtosis of each row of `directions @ W_U`.

    From `store` where it has them, which is told by the contents of both.

    The logits are made in float32 (float64 if given) on the device of `W_U`, `chunk_size` rows at
    a time (by default some 8 MB of them, which stay in a CPU's cache; 1 GB on a GPU); all sums are
    accumulated in float64, around each row's own mean, and in units of its own spread, so that no
    power leaves the range of a float.

    Raises:
        ValueError: shapes that do not multiply, an empty vocabulary, or a `chunk_size` below 1.
    """
    _check_shapes(directions, W_U)
    vocab = W_U.shape[1]
    dtype = torch.promote_types(torch.promote_types(directions.dtype, W_U.dtype), torch.float32)
    if chunk_size is None:
        limit = _PIECE_BYTES.get(W_U.device.type, _PIECE_BYTES["cpu"])
        chunk_size = max(1, limit // (4 * vocab))
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; use 1 or more rows at a time.")
    rows = chunk_size

    def compute() -> LogitMoments:
        return _in_chunks(directions, W_U.to(dtype), rows, progress)

    weights = fingerprint({"directions": directions, "W_U": W_U}) if store is not None else ""
    waiting = progress.check if progress is not None else None
    results: ResultStore = Memory() if store is None else store
    key = Key("logit-moments", _VERSION, {"weights": weights})
    return results.get_or_compute(key, compute, _MOMENTS, waiting=waiting)


def _in_chunks(
    directions: Tensor, W_U: Tensor, chunk_size: int, progress: Progress | None
) -> LogitMoments:
    n = len(directions)
    found = LogitMoments(*(np.full(n, np.nan) for _ in fields(LogitMoments)))
    for start in range(0, n, chunk_size):
        if progress is not None:
            progress.update(start, n, unit="latents", message="Spread of the logits")
        rows = slice(start, start + chunk_size)
        logits = directions[rows].to(device=W_U.device, dtype=W_U.dtype) @ W_U
        for field, values in zip(fields(LogitMoments), _moments(logits), strict=True):
            getattr(found, field.name)[rows] = values.cpu().numpy()
    if progress is not None:
        progress.update(n, n, unit="latents", message="Spread of the logits")
    return found


def _moments(logits: Float[Tensor, "n d_vocab"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Overwrites `logits`."""
    # Taken off twice: what rounding leaves of a large mean would otherwise count as spread.
    first = logits.mean(dim=1, dtype=torch.float64)
    logits -= first.to(logits.dtype)[:, None]
    rest = logits.mean(dim=1, dtype=torch.float64)
    logits -= rest.to(logits.dtype)[:, None]
    mean = first.to(logits.dtype).double() + rest
    largest = logits.abs().amax(dim=1)
    resolution = 8 * torch.finfo(logits.dtype).eps * mean.abs()
    flat = largest.double() <= resolution
    logits /= torch.where(flat, torch.ones_like(largest), largest)[:, None]
    squares = logits.square()
    second = squares.mean(dim=1, dtype=torch.float64)
    third = (logits * squares).mean(dim=1, dtype=torch.float64)
    fourth = squares.square_().mean(dim=1, dtype=torch.float64)
    std = torch.where(flat, 0.0, second.sqrt() * largest.double())
    nan = torch.full_like(std, torch.nan)
    std = torch.where(mean.isfinite(), std, nan)
    skewness = torch.where(flat, nan, third / second**1.5)
    kurtosis = torch.where(flat, nan, fourth / second**2 - 3)
    return mean.where(mean.isfinite(), nan), std, skewness, kurtosis


@torch.no_grad()
def latent_logits(
    direction: Float[Tensor, " d_model"], W_U: Float[Tensor, "d_model d_vocab"]
) -> Float[np.ndarray, " d_vocab"]:
    """One latent's effect on every token's logit, per unit of activation (float32).

    Raises ValueError for shapes that do not multiply.
    """
    _check_shapes(direction[None], W_U)
    logits = direction.to(device=W_U.device, dtype=torch.float32) @ W_U.float()
    return logits.cpu().numpy()


def logit_histogram(
    logits: Float[np.ndarray, " d_vocab"], *, n_bins: int = 80
) -> tuple[Int[np.ndarray, " n_bins"], Float[np.ndarray, " n_bins_plus_1"]]:
    """(tokens in each bin, edges) over the range of the logits; values that are not finite are
    left out.

    Raises ValueError when there is nothing finite, or for fewer bins than 1.
    """
    finite = logits[np.isfinite(logits)].astype(np.float64)
    if n_bins < 1 or len(finite) == 0:
        raise ValueError(
            f"There are {len(finite)} finite logits for {n_bins} bins; give at least one of each."
        )
    return np.histogram(finite, bins=n_bins)


def _check_shapes(directions: Tensor, W_U: Tensor) -> None:
    fits = directions.dim() == 2 and W_U.dim() == 2 and directions.shape[1] == W_U.shape[0]
    if not fits or W_U.shape[1] == 0:
        raise ValueError(
            f"Directions {list(directions.shape)} and W_U {list(W_U.shape)} do not multiply; give "
            "[n, d_model] and [d_model, d_vocab]."
        )


@dataclass(frozen=True)
class TokenEffect:
    """What a latent does to one token's score."""

    token: str
    """The token as text."""
    token_id: int
    """Its number in the vocabulary."""
    effect: float
    """Change of its logit per unit of the latent's activation."""


@dataclass(frozen=True, eq=False)
class LogitEffects:
    """What one latent does to the model's output, per unit of its activation."""

    boosted: tuple[TokenEffect, ...]
    """Tokens pushed up most, the strongest first."""
    suppressed: tuple[TokenEffect, ...]
    """Tokens pushed down most, the strongest first."""
    counts: Int[np.ndarray, " n_bins"]
    """Tokens of the vocabulary in each bin of effect,"""
    edges: Float[np.ndarray, " n_bins_plus_1"]
    """whose edges are these."""
    moments: LogitMoments
    """Of this latent alone: arrays of one number."""
    notes: tuple[str, ...] = ()
    """What has to be known to read the effects, a sentence each."""

    @property
    def is_flat(self) -> bool:
        """Whether all tokens are pushed alike, so that there is nothing to see."""
        return not float(self.moments.std[0]) > 0


@torch.no_grad()
def logits_of_latent(lease: Lease, latent: int) -> Float[np.ndarray, " d_vocab"]:
    """Effect of a latent of the lease's first SAE on every token's logit (float32)."""
    with lease.turn() as (model, (sae, *_)):
        return latent_logits(residual_directions(model, sae, [latent])[0], model.W_U)


def logit_effects(lease: Lease, latent: int, *, k: int = 10, n_bins: int = 60) -> LogitEffects:
    """Effects on the vocabulary of a latent of the lease's first SAE; `k` tokens at either end.

    Raises ValueError for a latent that does not exist, a site that does not write to the residual
    stream, or a decoder row that holds NaN.
    """
    with lease.turn() as (model, (sae, *_)):
        logits = latent_logits(residual_directions(model, sae, [latent])[0], model.W_U)
        notes = logit_notes(model, sae)
        if not np.isfinite(logits).all():
            raise ValueError(
                f"The decoder row of latent {latent} holds numbers that are not finite; choose "
                "another latent."
            )
        order = np.argsort(logits, kind="stable")
        k = min(k, len(order))
        effects = [
            TokenEffect(token_text(model.tokenizer, token_id), token_id, float(logits[token_id]))
            for token_id in (*order[::-1][:k].tolist(), *order[:k].tolist())
        ]
    counts, edges = logit_histogram(logits, n_bins=n_bins)
    parts = [part.numpy() for part in _moments(torch.from_numpy(logits.copy())[None])]
    return LogitEffects(
        tuple(effects[:k]), tuple(effects[k:]), counts, edges, LogitMoments(*parts), notes
    )
