"""How does the narrow SAE's error change when one latent of the wide one is put in?

With r what the narrow SAE leaves of an activation, a_i the activation of latent i of the wide SAE
and d_i what a unit of it writes, the squared error changes by

    |r − a_i·d_i|² − |r|² = a_i²·|d_i|² − 2·a_i·(r·d_i),

so two sums a latent tell all of them in one pass over a text. A latent that lowers the error is
*novel*, one that raises it a *reconstruction* of what the narrow SAE has already.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.activations.coded import Coded
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.models.hooks import Model
from core.sae_quality.measure import batches_of
from core.saes import check_fits
from core.stitching.pair import both_at, site_of

_BATCH_TOKENS = 2048
_BYTES = 32 << 20
_MOST_CELLS = 8_000_000


@dataclass(frozen=True, eq=False)
class Deltas:
    """What each latent of the wide SAE would do to the narrow one; sums of squares a position."""

    n_tokens: int
    """Positions."""
    delta: Float[np.ndarray, " d_wide"]
    """Mean change of the squared error; 0 for latents that never fired."""
    spread: Float[np.ndarray, " d_wide"]
    """Its standard error, from groups of rows."""
    shuffled: Float[np.ndarray, " d_wide"]
    """The same change when the narrow SAE's errors are those of other positions: the null."""
    firings: Int[np.ndarray, " d_wide"]
    """Positions at which each latent fired."""
    narrow_error: float
    """Mean squared error of the narrow SAE."""
    wide_error: float
    """Mean squared error of the wide one."""
    variance: float
    """Mean squared distance of what is to be written from its mean."""

    def novel(self, min_firings: int = 10) -> np.ndarray:
        """Which latents lower the error, bool [d_wide]; rarer ones than `min_firings` do not
        count."""
        return (self.delta < 0) & (self.firings >= min_firings)

    def surely(self) -> Int[np.ndarray, " d_wide"]:
        """-1 where a latent lowers the error at 95 %, 1 where it raises it, 0 undecided."""
        sign = np.sign(self.delta)
        return np.where(np.abs(self.delta) > 1.96 * self.spread, sign, 0).astype(np.int64)


def insertion_deltas(lease: Lease, tokens: TokenSet) -> Deltas:
    """The change for every latent of the lease's second (wide) SAE put into its first (narrow).

    One pass over the positions of `tokens` that count. Raises ValueError as `pair.site_of`, and
    for a text without two positions.
    """
    if tokens.n_tokens < 2:
        raise ValueError("The text has no two tokens that count; choose a longer one.")
    with lease.turn() as (model, saes):
        for sae in saes:
            check_fits(sae, model)
        site, d_wide = site_of(*_two(saes)), int(saes[1].cfg.d_sae)
    sums = _Sums(d_wide, len(site.wide_rows[0]), site.wide_rows)
    batches = batches_of(tokens, _BATCH_TOKENS)
    del site

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        place = site_of(saes[0], saes[1])
        for rows in batches[first:last]:
            lease.progress.check()
            both = both_at(model, saes[0], saes[1], tokens, rows, place)
            rest = both.wanted - both.narrow.written.to(both.wanted)
            left = both.wanted - both.wide.written.to(both.wanted)
            sums.add(both.wide, rest, left, both.wanted, place.wide_rows, both.row)

    lease.in_turns(len(batches), read, unit="batches", message="Reading the text with both SAEs")
    return sums.finish()


class _Sums:
    """Two sums a latent and group of rows, and one for the null."""

    def __init__(self, d_wide: int, d_out: int, rows: Tensor) -> None:
        self.groups = int(np.clip(_MOST_CELLS // max(1, d_wide), 5, 40))
        self.square, self.dot, self.null = (np.zeros((self.groups, d_wide)) for _ in range(3))
        self.n = np.zeros(self.groups)
        self.firings = np.zeros(d_wide, np.int64)
        self.total, self.errors = np.zeros(d_out), np.zeros(3)
        self.lengths = rows.double().pow(2).sum(1).cpu().numpy()

    def add(
        self, wide: Coded, rest: Tensor, left: Tensor, wanted: Tensor, rows: Tensor, row: np.ndarray
    ) -> None:
        group = row % self.groups
        self.n += np.bincount(group, minlength=self.groups)
        self.total += wanted.double().sum(0).cpu().numpy()
        self.errors += [float(it.double().pow(2).sum()) for it in (rest, left, wanted)]
        # Errors of positions half a batch away have nothing to do with what fires here.
        other = rest.roll(max(1, len(rest) // 2), 0)
        d_wide = len(self.firings)
        step = max(1, _BYTES // (8 * rest.shape[1]))
        for some in torch.arange(len(wide.latent), device=wide.latent.device).split(step):
            at, latent = wide.position[some], wide.latent[some]
            value = wide.value[some].double().cpu().numpy()
            writes = rows[latent]
            cell = group[at.cpu().numpy()] * d_wide + latent.cpu().numpy()
            for sums, part in (
                (self.square, value**2),
                (self.dot, value * _dots(rest, at, writes)),
                (self.null, value * _dots(other, at, writes)),
            ):
                found = np.bincount(cell, part, minlength=sums.size)
                sums += found.reshape(sums.shape)
        self.firings += torch.bincount(wide.latent, minlength=d_wide).cpu().numpy()

    def finish(self) -> Deltas:
        n = self.n.sum()
        changes = self.square * self.lengths - 2 * self.dot
        delta = changes.sum(0) / n
        used = self.n > 0
        away = changes[used] - delta * self.n[used, None]
        many = int(used.sum())
        spread = (
            np.sqrt(many / (many - 1) * (away**2).sum(0)) / n
            if many > 1
            else np.full(len(delta), np.inf)
        )
        shuffled = (self.square * self.lengths - 2 * self.null).sum(0) / n
        variance = (self.errors[2] - (self.total**2).sum() / n) / n
        return Deltas(
            n_tokens=int(n),
            delta=delta,
            spread=spread,
            shuffled=shuffled,
            firings=self.firings,
            narrow_error=self.errors[0] / n,
            wide_error=self.errors[1] / n,
            variance=float(variance),
        )


def _dots(vectors: Tensor, at: Tensor, writes: Tensor) -> np.ndarray:
    return (vectors[at].double() * writes).sum(1).cpu().numpy()


def _two(saes: list[SAE]) -> tuple[SAE, SAE]:
    if len(saes) != 2:
        raise ValueError(f"There are {len(saes)} SAEs; stitching takes a narrow and a wide one.")
    return saes[0], saes[1]
