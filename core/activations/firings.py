"""Where several SAEs fire on the same positions, as sparse matrices to read relations from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from core.activations.build import BATCH_TOKENS, run_rows
from core.corpus.token_set import TokenSet
from core.lease import Lease

MAX_TOKENS = 50_000
"""Positions looked at unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Firings:
    """One SAE's firings at some positions; several SAEs' have the same positions in one order."""

    latents: "csr_array"
    """float32 [n_positions, d_sae] activations above 0, latents ascending in each position."""
    places: Int[np.ndarray, " n_positions"]
    """int32 place of each position: row, position = divmod(place, context); ascending."""
    tokens: Int[np.ndarray, " n_positions"]
    """int32 token id at each position."""
    context: int
    """Places of a row."""

    @property
    def n_positions(self) -> int:
        """Positions looked at; each counts, whether anything fires there or not."""
        return self.latents.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.latents.shape[1]

    def frequency(self) -> Float[np.ndarray, " d_sae"]:
        """Share of the positions at which each latent fires (float64)."""
        counts = np.bincount(self.latents.indices, minlength=self.d_sae)
        return counts / max(1, self.n_positions)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for the store: 6 to 8 bytes a firing."""
        small = np.uint16 if self.d_sae <= 2**16 else np.int32
        return {
            "values": self.latents.data,
            "indices": self.latents.indices.astype(small),
            "indptr": self.latents.indptr.astype(np.int64),
            "d_sae": np.array(self.d_sae),
            "places": self.places,
            "tokens": self.tokens,
            "context": np.array(self.context),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Firings":
        """The firings that `to_arrays` gave."""
        indptr = arrays["indptr"]
        latents = csr_array(
            (arrays["values"], arrays["indices"].astype(np.int32), indptr.astype(np.int32)),
            shape=(len(indptr) - 1, int(arrays["d_sae"])),
        )
        latents.has_sorted_indices = True
        return cls(latents, arrays["places"], arrays["tokens"], int(arrays["context"]))


def collect_firings(
    lease: Lease,
    token_set: TokenSet,
    *,
    max_tokens: int = MAX_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Firings]:
    """Firings of each SAE of the lease at the same positions, from one run of the model.

    Rows are taken evenly over the token set until they have `max_tokens` positions that count;
    all of those count, the last row's too. With `token_set = prompt_tokens(...)` these are the
    firings on prompts. Memory is 8 bytes a firing.

    Raises:
        ValueError: no SAE, no position that counts, a site the model does not have.
    """
    with lease.turn() as (_, saes):
        widths = [sae.cfg.d_sae for sae in saes]
    if not widths:
        raise ValueError("There is no SAE to run; give at least one.")
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; use 1 or more.")
    rows = _even_rows(token_set, max_tokens)
    chosen = token_set.mask[rows]
    row, position = np.nonzero(chosen)
    places = (rows[row] * token_set.context + position).astype(np.int32)
    found: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in widths]
    step, done = max(1, batch_tokens // token_set.context), 0
    for start in range(0, len(rows), step):
        lease.progress.update(done, len(places), unit="tokens", message="Finding what fires")
        batch = rows[start : start + step]
        with lease.turn() as (model, saes):
            new = run_rows(model, saes, token_set, batch, progress=lease.progress)
        for parts, more in zip(found, new, strict=True):
            parts.extend(more)
        done += int(token_set.mask[batch].sum())
    lease.progress.update(done, len(places), unit="tokens", message="Finding what fires")
    tokens = token_set.tokens[rows[row], position]
    return [
        Firings(_matrix(parts, places, d_sae), places, tokens, token_set.context)
        for parts, d_sae in zip(found, widths, strict=True)
    ]


def _even_rows(token_set: TokenSet, max_tokens: int) -> Int[np.ndarray, " n"]:
    counts = token_set.mask.sum(1)
    rows = np.flatnonzero(counts)
    if len(rows) == 0:
        raise ValueError("No position of the token set counts; give it some text.")
    total = int(counts.sum())
    if total <= max_tokens:
        return rows
    # The positions asked for, spread evenly over all, say which rows are taken.
    ends = counts[rows].cumsum()
    wanted = max(1, round(len(rows) * max_tokens / total))
    targets = (np.arange(wanted) + 0.5) * total / wanted
    return rows[np.unique(np.searchsorted(ends, targets, side="right"))]


def _matrix(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], places: np.ndarray, d_sae: int
) -> csr_array:
    place = np.concatenate([np.empty(0, np.int32), *(part[0] for part in parts)])
    latent = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
    value = np.concatenate([np.empty(0, np.float32), *(part[2] for part in parts)])
    counts = np.bincount(np.searchsorted(places, place), minlength=len(places))
    indptr = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    matrix = csr_array((value, latent, indptr), shape=(len(places), d_sae))
    matrix.sort_indices()
    return matrix
