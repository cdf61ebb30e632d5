"""Which latents of a wide SAE fire where a latent of a narrow one does?

Firings are sparse matrices `[n_positions, d_sae]` of activations, all at the same positions.
Counts of few firings say little: one shared position out of one is a Jaccard index of 1. So every
table carries its counts, leaves out latents that fire at fewer than `min_firings` positions, and
gives with a conditional probability the lower end of its 95 % interval. Neighbouring positions are
not independent, which makes those intervals narrower than they should be.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from core.wilson import wilson_low

MIN_FIRINGS = 5
"""Positions at which a latent must fire to be compared at all."""


def cofiring(
    narrow: csr_array,
    wide: csr_array,
    latent: int,
    *,
    positions: Int[np.ndarray, " n"] | None = None,
    projections: Float[np.ndarray, " d_wide"] | None = None,
    min_firings: int = MIN_FIRINGS,
) -> pd.DataFrame:
    """Latents of `wide` that fire at positions where `latent` of `narrow` fires.

    Args:
        narrow: activations of the SAE of `latent`, `[n_positions, d_narrow]`.
        wide: activations of the other SAE at the same positions, `[n_positions, d_wide]`.
        latent: the chosen latent.
        positions: look only at these: those of one text, or `peak_positions` for the top examples.
            Counts are then counts among these.
        projections: how far what one unit of each wide latent writes (`core.saes.writes`) points
            along the chosen one's direction; needed for `share_explained`. Of SAEs that normalise
            each input it is in units of the input's scale, so that all positions count alike.
        min_firings: leave out wide latents that fire at fewer positions in all (not only at those
            looked at).

    Returns:
        Highest Jaccard index first:

        - `latent_idx`;
        - `n_parent`, `n_child`, `n_joint`: positions where the chosen one, this one, both fire;
        - `jaccard`: joint / either, 0 to 1;
        - `p_child_given_parent`: joint / parent, the share of the chosen one's positions that this
          one covers; `p_child_given_parent_low`: lower end of its 95 % Wilson interval;
        - `p_parent_given_child`, `p_parent_given_child_low`: the other way round;
        - `lift`: `p_child_given_parent` over the share of all positions looked at; about 1 for
          latents that fire everywhere alike (NaN where it says nothing: the chosen one fires at
          every position looked at);
        - `share_of_mass`: share of the chosen one's summed activation at joint positions;
        - `share_explained`: of all that wide latents write along the chosen direction where it
          fires (positive parts only), the part that this one writes; sums to at most 1, as rows
          left out are counted. NaN without `projections`.

    Raises:
        ValueError: matrices of different positions, or a latent that does not exist.
    """
    _check(narrow, wide, latent)
    totals = _counts(wide)
    if positions is not None:
        narrow, wide = narrow[positions], wide[positions]
    own = _column(narrow, latent)
    fires = np.flatnonzero(own > 0)
    joint_rows = _positive(wide[fires])
    n_child = _counts(wide)
    n_joint = _counts(joint_rows)
    n_parent = len(fires)
    # Entries in row order: repeating the parent's activation gives what each entry coincides with.
    parent_acts = np.repeat(own[fires], np.diff(joint_rows.indptr))
    mass = np.bincount(joint_rows.indices, weights=parent_acts, minlength=wide.shape[1])
    explained = np.full(wide.shape[1], np.nan)
    if projections is not None:
        along = joint_rows.data * np.maximum(projections, 0)[joint_rows.indices]
        written = np.bincount(joint_rows.indices, weights=along, minlength=wide.shape[1])
        explained = written / max(written.sum(), np.finfo(np.float64).tiny)
    keep = np.flatnonzero((n_joint > 0) & (totals >= min_firings))
    joint, child = n_joint[keep], n_child[keep]
    background = child / narrow.shape[0]
    table = pd.DataFrame(
        {
            "latent_idx": keep,
            "n_parent": n_parent,
            "n_child": child,
            "n_joint": joint,
            "jaccard": joint / (n_parent + child - joint),
            "p_child_given_parent": joint / max(n_parent, 1),
            "p_child_given_parent_low": wilson_low(joint, np.full_like(joint, n_parent)),
            "p_parent_given_child": joint / child,
            "p_parent_given_child_low": wilson_low(joint, child),
            "lift": joint / max(n_parent, 1) / background if n_parent < len(own) else np.nan,
            "share_of_mass": mass[keep] / own.sum() if n_parent else 0.0,
            "share_explained": explained[keep],
        }
    )
    return table.sort_values(
        ["jaccard", "n_joint"], ascending=False, kind="stable", ignore_index=True
    )


def peak_positions(
    firings: csr_array,
    latent: int,
    *,
    n_top: int = 20,
    documents: Int[np.ndarray, " n_positions"] | None = None,
) -> Int[np.ndarray, " n"]:
    """Positions of the latent's `n_top` highest activations, highest first.

    With `documents` (the text that each position is of) only the peak of each text counts, so that
    one long passage is one example. Fewer positions where it fires less often.

    Raises:
        ValueError: a latent that does not exist, `n_top` below 1, or documents that do not fit.
    """
    _check(firings, firings, latent)
    if n_top < 1:
        raise ValueError(f"n_top is {n_top}; ask for at least one example.")
    if documents is not None and len(documents) != firings.shape[0]:
        raise ValueError(
            f"There are {len(documents)} documents for {firings.shape[0]} positions; give the "
            "document of each position."
        )
    own = _column(firings, latent)
    order = np.argsort(-own, kind="stable")[: np.count_nonzero(own > 0)]
    if documents is not None:
        _, first = np.unique(np.asarray(documents)[order], return_index=True)
        order = order[np.sort(first)]
    return order[:n_top]


def pairs_in_text(
    narrow: csr_array, wide: csr_array, *, min_joint: int = 2, limit: int = 200
) -> pd.DataFrame:
    """Pairs of a narrow and a wide latent that fire on the same tokens of one text.

    Args:
        narrow: activations at the text's tokens, `[n_tokens, d_narrow]`.
        wide: those of the other SAE at the same tokens.
        min_joint: tokens on which both must fire.
        limit: how many pairs to return.

    Returns:
        Best first: `narrow_idx`, `wide_idx`, `n_narrow`, `n_wide`, `n_joint` (tokens), `jaccard`,
        and `overlap`, the cosine of the two activation patterns over the text (0 to 1), by which
        they are ordered.

    Raises:
        ValueError: matrices of different numbers of tokens.
    """
    _check(narrow, wide, None)
    ours, theirs = _positive(narrow), _positive(wide)
    products = csr_array(ours.T @ theirs)
    joint = csr_array(_ones(ours).T @ _ones(theirs))
    # Both have an entry for every pair that meets, so in the same order they match one to one.
    products.sort_indices()
    joint.sort_indices()
    rows = np.repeat(np.arange(joint.shape[0]), np.diff(joint.indptr))
    columns, n_joint = joint.indices, joint.data.astype(np.int64)
    keep = n_joint >= min_joint
    rows, columns, n_joint = rows[keep], columns[keep], n_joint[keep]
    norms = _norms(ours)[rows] * _norms(theirs)[columns]
    n_narrow, n_wide = _counts(ours)[rows], _counts(theirs)[columns]
    table = pd.DataFrame(
        {
            "narrow_idx": rows.astype(np.int64),
            "wide_idx": columns.astype(np.int64),
            "n_narrow": n_narrow,
            "n_wide": n_wide,
            "n_joint": n_joint,
            "jaccard": n_joint / (n_narrow + n_wide - n_joint),
            "overlap": products.data[keep] / norms,
        }
    )
    by = ["overlap", "n_joint", "narrow_idx", "wide_idx"]
    order = table.sort_values(by, ascending=[False, False, True, True], ignore_index=True)
    return order.head(limit)


def firing_counts(firings: csr_array) -> Int[np.ndarray, " d_sae"]:
    """Number of positions at which each latent fires."""
    return _counts(_positive(firings))


def ones_where_firing(firings: csr_array) -> csr_array:
    """1 where a latent fires, in float32 (counts up to 2²⁴ stay exact in products)."""
    return _ones(_positive(firings))


def _counts(firings: csr_array) -> Int[np.ndarray, " d_sae"]:
    indices = firings.indices[firings.data > 0]
    return np.bincount(indices, minlength=firings.shape[1])


def _column(firings: csr_array, latent: int) -> Float[np.ndarray, " n_positions"]:
    return firings[:, [latent]].toarray()[:, 0].astype(np.float64)


def _positive(firings: csr_array) -> csr_array:
    """Without stored zeros (or negative values, which no firing has), in float64."""
    kept = csr_array(
        (np.where(firings.data > 0, firings.data, 0), firings.indices, firings.indptr),
        shape=firings.shape,
        dtype=np.float64,
    )
    kept = kept.copy()
    kept.eliminate_zeros()
    return kept


def _ones(firings: csr_array) -> csr_array:
    ones = np.ones(len(firings.data), dtype=np.float32)
    return csr_array((ones, firings.indices, firings.indptr), shape=firings.shape)


def _norms(firings: csr_array) -> Float[np.ndarray, " d_sae"]:
    squares = np.bincount(firings.indices, weights=firings.data**2, minlength=firings.shape[1])
    return np.sqrt(squares)


def _check(narrow: csr_array, wide: csr_array, latent: int | None) -> None:
    if narrow.shape[0] != wide.shape[0]:
        raise ValueError(
            f"The firings are of {narrow.shape[0]} and {wide.shape[0]} positions; collect both on "
            "the same texts."
        )
    if latent is not None and not 0 <= latent < narrow.shape[1]:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {narrow.shape[1]}, so choose 0 to "
            f"{narrow.shape[1] - 1}."
        )
