"""The rows of an SAE taken apart in several ways, each beside its nulls."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from core.fit_check.sums import Figure, draws, figure
from core.jobs.progress import Progress
from core.meta_sae.config import LEAST_ROWS, MetaConfig
from core.meta_sae.meta import MetaSae, explained_variance
from core.meta_sae.nulls import gaussian_rows, permuted_rows
from core.meta_sae.pursuit import matching_pursuit
from core.meta_sae.stability import TWIN, matched_cosines
from core.meta_sae.train import train_meta_sae

_TRAININGS = ("the meta-SAE", "a second seed", "on Gaussian rows", "on permuted coordinates")

Train = Callable[[np.ndarray, MetaConfig, Callable[[int], None]], MetaSae]
"""(rows, settings, told of each 25 steps) to a meta-SAE: plainly, or from the store."""


@dataclass(frozen=True, eq=False)
class Pursuit:
    """Rows as multiples of given directions."""

    coefficients: csr_array
    """`[n, m]`, at most k a row."""
    explained: Figure
    """Variance explained, with a 95 % interval by bootstrap over rows."""
    null: float
    """The same over as many random directions of the same covariance as those given."""


@dataclass(frozen=True, eq=False)
class Decompositions:
    """One SAE's decoder rows, of length 1."""

    latents: Int[np.ndarray, " n"]
    """Latents with a direction; rows of everything else are in this order."""
    meta: MetaSae
    """The meta-SAE."""
    acts: csr_array
    """Each latent as meta-latents, `[n, width]`."""
    explained: Figure
    """Variance of the rows that it explains, with a 95 % interval by bootstrap over rows."""
    second_seed: float
    """The same of a meta-SAE with another seed."""
    gaussian: float
    """The same of one trained on Gaussian rows of the same covariance, on these."""
    permuted: float
    """The same of one trained on rows with permuted coordinates, on these."""
    matched: Float[np.ndarray, " width"]
    """Cosine of each meta-latent with its partner under the other seed."""
    matched_null: Float[np.ndarray, " width"]
    """The same with its partner in the meta-SAE of the Gaussian rows."""
    own: Pursuit
    """Matching pursuit over the SAE's own other latents."""
    narrower: Pursuit | None
    """Matching pursuit over a narrower SAE; None where none was given."""

    @property
    def recurring(self) -> float:
        """Share of the meta-latents that the other seed finds as well (cosine above 0.7)."""
        return float((self.matched > TWIN).mean())

    @property
    def recurring_null(self) -> float:
        """The same with the meta-SAE of the Gaussian rows instead of the other seed's."""
        return float((self.matched_null > TWIN).mean())

    @property
    def excess(self) -> float:
        """Variance explained beyond what it would be on Gaussian rows of the same covariance."""
        return self.explained.value - self.gaussian

    def place(self, latent: int) -> int | None:
        """Place of a latent among the rows; None for one without a direction."""
        at = int(np.searchsorted(self.latents, latent))
        return at if at < len(self.latents) and self.latents[at] == latent else None


def decompositions(
    rows: Float[np.ndarray, "d_sae d"],
    narrower: Float[np.ndarray, "m d"] | None = None,
    *,
    config: MetaConfig | None = None,
    progress: Progress | None = None,
    train: Train | None = None,
) -> Decompositions:
    """Decoder rows as meta-latents, as latents of a narrower SAE and as others of their own SAE.

    Trains four meta-SAEs: two seeds, Gaussian rows and permuted coordinates. Rows are taken at
    length 1; those without a direction are left out. `train` makes the meta-SAEs (default:
    `train_meta_sae`).

    Raises:
        ValueError: fewer than 20 rows with a direction, a narrower SAE of another space.
    """
    config, train = config or MetaConfig(), train or _plainly
    if narrower is not None and narrower.shape[1] != rows.shape[1]:
        raise ValueError(
            f"The narrower SAE's rows have {narrower.shape[1]} numbers and these {rows.shape[1]}; "
            "choose an SAE of the same site."
        )
    norms = np.linalg.norm(rows, axis=1)
    latents = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    if len(latents) < LEAST_ROWS:
        raise ValueError(
            f"This SAE has {len(latents)} latents with a direction; a meta-SAE needs {LEAST_ROWS} "
            "or more, so choose a wider SAE."
        )
    unit = (rows[latents] / norms[latents, None]).astype(np.float32)
    progress = progress or Progress()
    gaussian = _unit(gaussian_rows(unit, config.seed))
    permuted = _unit(permuted_rows(unit, config.seed))
    trained = []
    for number, (data, seed) in enumerate(
        (
            (unit, config.seed),
            (unit, config.seed + 1),
            (gaussian, config.seed),
            (permuted, config.seed),
        )
    ):
        message = f"Training {_TRAININGS[number]}"
        before = number * config.steps

        def tell(step: int, before: int = before, message: str = message) -> None:
            progress.update(before + step, 4 * config.steps, unit="steps", message=message)

        trained.append(train(data, replace(config, seed=seed), tell))
    progress.update(0, None, message="Matching pursuit")
    meta, other, of_gaussian, of_permuted = trained
    acts = meta.encode(unit)
    return Decompositions(
        latents=latents,
        meta=meta,
        acts=acts,
        explained=_explained(unit, meta.decode(acts)),
        second_seed=other.explained_variance(unit),
        gaussian=of_gaussian.explained_variance(gaussian),
        permuted=of_permuted.explained_variance(permuted),
        matched=matched_cosines(meta.W_dec, other.W_dec),
        matched_null=matched_cosines(meta.W_dec, of_gaussian.W_dec),
        own=_pursuit(unit, unit, config, itself=True),
        narrower=None if narrower is None else _pursuit(unit, narrower, config),
    )


def _pursuit(
    unit: np.ndarray, directions: np.ndarray, config: MetaConfig, *, itself: bool = False
) -> Pursuit:
    mean = unit.mean(0)
    without = np.arange(len(unit)) if itself else None
    centred = unit - mean
    others = _unit(directions.astype(np.float32))
    found = matching_pursuit(centred, others, k=config.k, without=without)
    random = _unit(gaussian_rows(others, config.seed))
    null = matching_pursuit(centred, random, k=config.k)
    return Pursuit(
        found,
        _explained(centred, np.asarray(found @ others)),
        explained_variance(centred, np.asarray(null @ random)),
    )


def _explained(rows: np.ndarray, written: np.ndarray) -> Figure:
    """`explained_variance` with its interval."""
    error = ((rows - written) ** 2).sum(1)
    whole = ((rows - rows.mean(0)) ** 2).sum(1)
    weights = draws(len(rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = 1 - (weights @ error) / (weights @ whole)
    return figure(explained_variance(rows, written), samples, rows=len(rows))


def _plainly(rows: np.ndarray, config: MetaConfig, tell: Callable[[int], None]) -> MetaSae:
    return train_meta_sae(rows, config, check=tell)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
