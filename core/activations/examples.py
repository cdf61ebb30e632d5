"""A latent's examples as a dashboard shows them, and the index of a plain batch of tokens."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.activations.build import build_index, run_rows
from core.activations.config import IndexConfig
from core.activations.index import LatentIndex
from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.models.hooks import Model


@dataclass(frozen=True, eq=False)
class Examples:
    """Some places of a token set at which a latent fires, with the tokens around them."""

    values: Float[np.ndarray, " n"]
    """The latent's activation at each."""
    places: Int[np.ndarray, " n"]
    """Their places in the token set."""
    documents: Int[np.ndarray, " n"]
    """Document of each; -1 at BOS."""
    offsets: Int[np.ndarray, " n"]
    """Offset in that document, in tokens; -1 at BOS."""
    tokens: Int[np.ndarray, "n width"]
    """Token ids around each, itself in the middle; -1 outside the row."""
    activations: Float[np.ndarray, "n width"]
    """float32 activations there; 0 outside the row and at positions that do not count."""

    def first(self, n: int) -> "Examples":
        """The first `n` of them."""
        return Examples(
            *(getattr(self, field.name)[:n] for field in fields(self)),
        )


@dataclass(frozen=True, eq=False)
class Band:
    """Examples drawn at random from one band of a latent's activation range."""

    low: float
    """Activations from here,"""
    high: float
    """below here (the last band: up to here)."""
    count: int
    """Firings of the whole corpus in the band."""
    examples: Examples
    """Some of them, strongest first."""


@dataclass(frozen=True, eq=False)
class LatentExamples:
    """What a dashboard shows of one latent."""

    latent: int
    """Which."""
    top: Examples
    """Strongest examples, best first."""
    bands: tuple[Band, ...]
    """Bands of its range, highest first; those in which nothing fires are left out."""


def latent_examples(index: LatentIndex, latent: int, token_set: TokenSet) -> LatentExamples:
    """Examples of one latent, decodable: the tokens come from the set that was indexed.

    Raises ValueError for a latent the index does not hold.
    """
    part = index.part(latent, latent + 1)
    top = _examples(
        part.top_values[0], part.top_places[0], part.top_windows[0], token_set, index.config
    )
    bands = []
    for band in reversed(range(index.config.n_quantiles)):
        if part.band_counts[0, band] == 0:
            continue
        shown = _examples(
            part.band_values[0, band],
            part.band_places[0, band],
            part.band_windows[0, band],
            token_set,
            index.config,
        )
        low, high = part.band_edges[0, band : band + 2].tolist()
        bands.append(Band(low, high, int(part.band_counts[0, band]), shown))
    return LatentExamples(latent, top, tuple(bands))


def _examples(
    values: np.ndarray,
    places: np.ndarray,
    windows: np.ndarray,
    token_set: TokenSet,
    config: IndexConfig,
) -> Examples:
    there = places >= 0
    places = places[there]
    documents, offsets = token_set.locate(places)
    return Examples(
        values=values[there],
        places=places,
        documents=documents,
        offsets=offsets,
        tokens=token_set.windows(places, config.buffer, config.buffer),
        activations=windows[there].astype(np.float32),
    )


def collect_latent_examples(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "n_rows context"] | TokenSet,
    *,
    n_top: int = 20,
    n_quantiles: int = 10,
    per_quantile: int = 5,
    buffer: int = 10,
    one_per_row: bool = True,
    include_bos: bool = False,
    pad_id: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatentIndex:
    """Examples and figures of all latents of an SAE, from one pass over `tokens`.

    Args:
        model: either model class.
        sae: any SAE that reads a site of it.
        tokens: rows of token ids, of at most the model's context, or a `TokenSet`.
        n_top: strongest examples a latent, of different rows unless `one_per_row` is off.
        n_quantiles: bands of equal width of its activation range, with `per_quantile` random
            examples each.
        buffer: tokens on either side of an example whose activations are kept.
        include_bos: whether positions that hold BOS count (for plain rows).
        pad_id: trailing tokens with this id are padding (for plain rows).

    Read a latent with `latent_examples(index, latent, token_set)`; for plain rows the set is
    `TokenSet.from_rows(tokens, ...)`. Raises ValueError as `build_statistics`.
    """
    if not isinstance(tokens, TokenSet):
        tokens = TokenSet.from_rows(
            torch.as_tensor(tokens),
            bos_id=bos_id(model.tokenizer),
            pad_id=pad_id,
            include_bos=include_bos,
        )
    config = IndexConfig(
        n_top=n_top,
        n_quantiles=n_quantiles,
        per_quantile=per_quantile,
        buffer=buffer,
        one_per_row=one_per_row,
        seed=seed,
    )
    return build_index(model, [sae], tokens, config, progress=progress)[0]


def row_activations(
    model: Model, sae: SAE, token_set: TokenSet, rows: Int[np.ndarray, " n"], latent: int
) -> Float[np.ndarray, "n context"]:
    """One latent's activations at all positions of some rows that count (0 elsewhere), run live.

    For context beyond what the index keeps. float32; the rows may repeat and be in any order.
    Raises ValueError for a latent that does not exist.
    """
    if not 0 <= latent < sae.cfg.d_sae:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {sae.cfg.d_sae}, so choose 0 to "
            f"{sae.cfg.d_sae - 1}."
        )
    different, index = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
    out = np.zeros((len(different), token_set.context), dtype=np.float32)
    if len(different) == 0:
        return out
    for place, latents, value in run_rows(model, [sae], token_set, different)[0]:
        mine = latents == latent
        row, position = np.divmod(place[mine], token_set.context)
        out[np.searchsorted(different, row), position] = value[mine]
    return out[index]
