"""Random latents and random directions that go through the same sections as a latent.

Random directions become an SAE (`core.autointerp.controls`), whose units fire as often as latents
of all rates do, so every analysis that takes an SAE runs on them unchanged. Both kinds are drawn
once for an SAE and a text; a latent is held against those that fire about as often as it does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.lease import Lease
from core.store.fingerprint import fingerprint_of_sae

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models.hooks import Model

N_CONTROLS = 40
"""Random latents, and random directions."""
N_NEAR = 19
"""Of each, those that fire about as often as a latent and that it is held against: as many as a
share of 5 % needs, the latent counted in."""


class StandInLease(Lease):
    """A lease whose SAE is another one, which only this work knows."""

    def __init__(self, lease: Lease, sae: "SAE") -> None:
        """`lease` gives the model; its own SAEs are not handed on."""
        super().__init__(lease.progress)
        self._lease, self._sae = lease, sae
        self._fingerprint = fingerprint_of_sae(sae)

    @contextmanager
    def turn(self) -> "Iterator[tuple[Model, list[SAE]]]":
        """The model's turn, with the stand-in."""
        with self._lease.turn() as (model, _):
            yield model, [self._sae]

    def with_saes(self, numbers: Sequence[int]) -> Lease:
        """The same: there is one SAE."""
        if list(numbers) != [0]:
            raise ValueError(f"There is one SAE here, number 0; {list(numbers)} was asked for.")
        return self

    def beside_own(self) -> Lease:
        """A lease with the first SAE of the lease behind it and the stand-in: one run for both."""
        return _BesideOwn(self._lease, self._sae)

    @property
    def model_fingerprint(self) -> str:
        """As of the lease behind it."""
        return self._lease.model_fingerprint

    @property
    def sae_fingerprints(self) -> tuple[str, ...]:
        """Of the stand-in."""
        return (self._fingerprint,)


class _BesideOwn(StandInLease):
    @contextmanager
    def turn(self) -> "Iterator[tuple[Model, list[SAE]]]":
        with self._lease.turn() as (model, (own, *_)):
            yield model, [own, self._sae]

    @property
    def sae_fingerprints(self) -> tuple[str, ...]:
        return (self._lease.sae_fingerprints[0], self._fingerprint)

    def with_saes(self, numbers: Sequence[int]) -> Lease:
        raise ValueError("Both SAEs are for one run; ask the leases behind it for one of them.")


def drawn_latents(
    summary: pd.DataFrame, *, n: int = N_CONTROLS, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """Up to `n` latents that fire, of all rates alike: one of each stretch of the ranking by rate.

    `summary` is that of an index.
    """
    alive = summary.loc[summary["count"] > 0].sort_values(["count", "latent"])
    latents = alive["latent"].to_numpy()
    parts = np.array_split(latents, min(n, len(latents))) if len(latents) else []
    rng = np.random.default_rng([seed, 71])
    return np.array([int(rng.choice(part)) for part in parts], dtype=np.int64)


def nearest_by_rate(
    rate: float, rates: Float[np.ndarray, " n"], *, n: int = N_NEAR, leave: Sequence[int] = ()
) -> Int[np.ndarray, " m"]:
    """Places of the `n` rates that are closest in ratio to `rate`, those of `leave` left out."""
    floor = 1e-9
    gap = np.abs(np.log(np.maximum(rates, floor)) - np.log(max(rate, floor)))
    gap[list(leave)] = np.inf
    order = np.argsort(gap, kind="stable")[:n]
    return np.sort(order[np.isfinite(gap[order])])
