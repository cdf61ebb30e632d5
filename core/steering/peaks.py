"""Input score: does a latent fire on the tokens that it pushes? (Arad, Mueller, Belinkov 2025)"""

import numpy as np
from jaxtyping import Float, Int

from core.activations.index import LatentIndex
from core.corpus.token_set import TokenSet

LEAST_TEXTS = 10
"""With fewer texts in which a latent fires, the share says little, and is not told."""


def peak_tokens(index: LatentIndex, token_set: TokenSet) -> Int[np.ndarray, "n n_top"]:
    """The token at the strongest position of each latent's strongest texts; -1 for none.

    An index keeps one peak of each of up to `n_top` texts (rows).
    """
    return token_set.windows(index.top_places, 0, 0)[..., 0]


def input_scores(
    peaks: Int[np.ndarray, "n n_top"], tokens: Int[np.ndarray, "n k"], *, least: int = LEAST_TEXTS
) -> Float[np.ndarray, " n"]:
    """Share of a latent's strongest texts whose peak token is among the tokens that it pushes.

    Args:
        peaks: as `peak_tokens` gives them.
        tokens: the tokens pushed most, as `core.steering.scores.lens_tokens` gives them.
        least: with fewer texts the score is NaN.

    Raises:
        ValueError: arrays of different numbers of latents.
    """
    if len(peaks) != len(tokens):
        raise ValueError(
            f"There are peaks of {len(peaks)} latents and tokens of {len(tokens)}; give both for "
            "the same latents."
        )
    n = (peaks >= 0).sum(1)
    hits = ((peaks[:, :, None] == tokens[:, None, :]).any(2) & (peaks >= 0)).sum(1)
    return np.where(n >= least, hits / np.maximum(n, 1), np.nan)


def shuffled_input_scores(
    peaks: Int[np.ndarray, "n n_top"], tokens: Int[np.ndarray, "n k"], *, seed: int = 0
) -> Float[np.ndarray, " n"]:
    """The null distribution: each latent's peaks against the tokens of another latent."""
    order = np.random.default_rng(seed).permutation(len(tokens))
    # A step along a random circle through all latents: none keeps its own tokens.
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return input_scores(peaks, tokens[other])
