"""The decoders of a family of SAEs, ready for cosine similarities; and what chance would give."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import beta
from torch import Tensor

CHUNK = 2048
"""Rows of a matrix of similarities that exist at a time."""


@dataclass(frozen=True)
class Decoder:
    """One SAE's decoder directions. The rows are those that were given, not a copy."""

    label: str
    """The SAE's name in its family."""
    W_dec: Float[Tensor, "d_sae d_in"]
    """Decoder rows, of any length: where lengths matter, what a unit of activation writes."""
    inverse_norms: Float[Tensor, " d_sae"]
    """1 / length of each row; 0 for rows that are zero, not finite, or hidden."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.W_dec)

    def unit(self, rows: slice | Int[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """Some directions, of length 1 in float32; all zero where there is none."""
        scale = self.inverse_norms[rows, None]
        return torch.where(scale > 0, self.W_dec[rows].detach().float() * scale, 0.0)

    def direction(self, latent: int) -> Float[Tensor, " d_in"]:
        """One direction. Raises ValueError for a latent without one, or that does not exist."""
        if not 0 <= latent < self.width:
            raise ValueError(
                f"There is no latent {latent} in {self.label}; choose 0 to {self.width - 1}."
            )
        if self.inverse_norms[latent] == 0:
            raise ValueError(
                f"Latent {latent} of {self.label} has no direction (its decoder row is zero, not "
                "finite, or hidden); choose another."
            )
        return self.unit(torch.tensor([latent], device=self.W_dec.device))[0]

    def cosines(self, direction: Float[Tensor, " d_in"]) -> Float[Tensor, " d_sae"]:
        """Cosine of each latent with a direction of length 1; -inf where there is none."""
        similarities = torch.empty(self.width, device=self.W_dec.device)
        for rows in _chunks(self.width, CHUNK * 8):
            similarities[rows] = self.unit(rows) @ direction.to(self.W_dec.device)
        return similarities.masked_fill_(self.inverse_norms == 0, -torch.inf)


@torch.no_grad()
def decoders(
    weights: Mapping[str, Float[Tensor, "d_sae d_in"]],
    *,
    hidden: Mapping[str, Bool[Any, " d_sae"]] | None = None,
) -> dict[str, Decoder]:
    """The decoders of a family, narrowest first, by label.

    Args:
        weights: `W_dec` of each SAE, or (for more than cosines) what a unit of activation writes,
            `core.saes.writes.unit_writes`.
        hidden: for some labels, latents to treat as if they had no direction (True: hide).

    Raises:
        ValueError: no SAE, or SAEs of different activation widths.
    """
    sizes = {tuple(weight.shape[1:]) for weight in weights.values()}
    if len(sizes) != 1 or any(len(size) != 1 for size in sizes):
        raise ValueError(
            f"The decoders write activations of {sorted(sizes)} numbers; choose SAEs of one site."
        )
    family = {}
    for label, W_dec in sorted(weights.items(), key=lambda item: len(item[1])):
        norms = torch.cat(
            [W_dec[rows].detach().float().norm(dim=1) for rows in _chunks(len(W_dec))]
        )
        usable = torch.isfinite(norms) & (norms > 0)
        if hidden and label in hidden:
            usable &= ~torch.as_tensor(np.asarray(hidden[label]), device=usable.device)
        family[label] = Decoder(label, W_dec, torch.where(usable, 1 / norms, 0.0))
    return family


def best_matches(
    of: Decoder, among: Decoder, rows: Int[Tensor, " n"] | None = None
) -> Iterator[tuple[Int[Tensor, " c"], Int[Tensor, " c"], Float[Tensor, " c"]]]:
    """For latents of one SAE, the latent of another with the highest cosine, and that cosine.

    Exact, in chunks of `(latents, matches, cosines)`: only a strip of the matrix exists at a time.
    Latents without a direction are left out; of several equal matches any may be given.
    """
    chosen = torch.arange(of.width) if rows is None else rows
    chosen = chosen.to(of.W_dec.device)
    chosen = chosen[of.inverse_norms[chosen] > 0]
    for part in chosen.split(CHUNK):
        strip = of.unit(part).to(among.W_dec.device)
        best = torch.full((len(part),), -torch.inf, device=strip.device)
        match = torch.zeros(len(part), dtype=torch.long, device=strip.device)
        for columns in _chunks(among.width, CHUNK * 8):
            similarities = strip @ among.unit(columns).T
            similarities[:, among.inverse_norms[columns] == 0] = -torch.inf
            value, index = similarities.max(dim=1)
            better = value > best
            best = torch.where(better, value, best)
            match = torch.where(better, index + columns.start, match)
        yield part.cpu(), match.cpu(), best.cpu()


def chance_cosine(d_in: int, n_candidates: int, *, level: float = 0.99) -> float:
    """The cosine that the best of `n_candidates` random directions stays under, at `level`.

    For directions spread evenly over the sphere in `d_in` dimensions, of which the cosine with a
    given one has `(1 + cosine) / 2 ~ Beta((d_in - 1) / 2, (d_in - 1) / 2)`. Decoder rows are not
    spread evenly: `matched_chance_cosine` takes that into account, and is the higher of the two.

    Raises:
        ValueError: fewer than 2 dimensions, no candidate, or a level outside 0 to 1.
    """
    if d_in < 2 or n_candidates < 1 or not 0 < level < 1:
        raise ValueError(
            f"d_in={d_in}, n_candidates={n_candidates}, level={level}; give at least 2 dimensions, "
            "one candidate, and a level between 0 and 1."
        )
    half = (d_in - 1) / 2
    return float(2 * beta.ppf(level ** (1 / n_candidates), half, half) - 1)


@torch.no_grad()
def matched_chance_cosine(
    of: Decoder, among: Decoder, *, level: float = 0.99, n_samples: int = 1000, seed: int = 0
) -> float:
    """As `chance_cosine`, for random directions with the mean and covariance of those `of` an SAE.

    Each sample is the mean plus a random mixture of the rows, and is matched with the latents
    `among` which a relative would be sought; the answer is a quantile of these best cosines.
    """
    usable = torch.nonzero(of.inverse_norms)[:, 0]
    generator = torch.Generator().manual_seed(seed)
    rows = usable[torch.randperm(len(usable), generator=generator)[:8192].to(usable.device)]
    directions = of.unit(rows)
    mean = directions.mean(dim=0)
    mixture = torch.randn(n_samples, len(rows), generator=generator).to(directions.device)
    samples = mean + mixture @ (directions - mean) / max(1, len(rows) - 1) ** 0.5
    norms = samples.norm(dim=1)
    sampled = Decoder("chance", samples, torch.where(norms > 0, 1 / norms, 0.0))
    best = torch.cat([cosines for _, _, cosines in best_matches(sampled, among)])
    return float(best.quantile(level)) if len(best) else float("nan")


def _chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
