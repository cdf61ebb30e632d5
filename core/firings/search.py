"""Which latents of which SAEs fire at some places, how strongly, and nowhere else?

Three ways to rank, since each alone misleads: by activation, strong latents of wide scales win; by
the share of a latent's own maximum, those that reach it here; by specificity, those that fire here
and hardly elsewhere.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.bins import N_BINS, bin_edges, log_bin
from core.firings.kept import Kept, rows_of
from core.firings.places import Places
from core.firings.shard import read_shard
from core.jobs.progress import Progress
from core.wilson import wilson_low

RANKINGS = ("activation", "of_peak", "specificity")
"""Ways to rank latents."""
_THREADS = 4
COLUMNS = (
    "release",
    "sae",
    "latent",
    "activation",
    "place",
    "mean",
    "fired",
    "places",
    "coverage",
    "of_peak",
    "count",
    "share",
    "specificity",
)
"""Of the tables of this module."""


def firing_at(
    kept: Sequence[Kept], masks: Sequence[Places], *, progress: Progress | None = None
) -> pd.DataFrame:
    """All latents that fire at the masked places of their own text, of each of `kept`.

    `masks[i]` is of `kept[i].token_set`; a few threads read an SAE each. A row a latent, in the
    order of `kept`: `activation` (the largest there), `place` of it (the first of equals), `mean`
    over all masked places, `fired` of `places`, `coverage` (their ratio), `of_peak` (`activation`
    as a share of the largest in the whole text), `count` (firings in the whole text), `share` of
    them that are there, and `specificity`, the lower end of that share's 95 % interval (Wilson).

    Raises ValueError for files that cannot be read.
    """
    tables: list[pd.DataFrame] = []

    def table(number: int) -> pd.DataFrame:
        return _table(kept[number], masks[number], progress)

    # Decoding Parquet and counting leave Python to other threads.
    with ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1)) as pool:
        for one in pool.map(table, range(len(kept))):
            tables.append(one)
            if progress is not None:
                progress.update(
                    len(tables), len(kept), unit="SAEs", message="Looking at what was kept"
                )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def figures(
    sae: tuple[str, str],
    latent: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    *,
    places: int,
    count: Int[np.ndarray, " d_sae"] | None,
    peak: Float[np.ndarray, " d_sae"] | None,
    more: bool = False,
) -> pd.DataFrame:
    """The table of `firing_at` from firings at `places` places, ascending by place.

    `count` and `peak` are those of the whole text (None: not known, then NaN); with `more`, the
    places do not belong to that text and are added to it.
    """
    order = np.lexsort((place, -value, latent))
    latent, value, place = latent[order], value[order], place[order]
    starts = np.flatnonzero(np.r_[True, latent[1:] != latent[:-1]]) if len(latent) else latent[:0]
    fired = np.diff(np.r_[starts, len(latent)])
    total = np.add.reduceat(value.astype(np.float64), starts) if len(starts) else value[:0]
    who, strongest = latent[starts], value[starts]
    nothing = np.full(len(who), np.nan)
    in_all = nothing if count is None else count[who] + (fired if more else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_peak = (
            nothing if peak is None else np.where(peak[who] > 0, strongest / peak[who], np.inf)
        )
    if more and peak is not None:
        of_peak = np.where(np.isinf(of_peak), np.nan, of_peak)
    return pd.DataFrame(
        {
            "release": sae[0],
            "sae": sae[1],
            "latent": who,
            "activation": strongest,
            "place": place[starts],
            "mean": total / max(1, places),
            "fired": fired,
            "places": places,
            "coverage": fired / max(1, places),
            "of_peak": of_peak,
            "count": in_all,
            "share": fired / in_all,
            "specificity": wilson_low(fired, in_all),
        },
        columns=list(COLUMNS),
    )


def ranked(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The first by `activation`, `of_peak` or `specificity` first; what is not known comes last.

    Raises ValueError for another way.
    """
    if by not in RANKINGS:
        raise ValueError(f"There is no ranking by {by!r}; use one of {', '.join(RANKINGS)}.")
    order = np.lexsort((-table["activation"], -table[by].fillna(-1.0)))
    return table.iloc[order].reset_index(drop=True)


def places_of_latent(kept: Kept, latent: int, *, progress: Progress | None = None) -> Places:
    """Where one latent fires in its text. Raises ValueError for one that the SAE does not have."""
    about = kept.about
    if not 0 <= latent < about.d_sae:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {about.d_sae:,}, so choose 0 to "
            f"{about.d_sae - 1:,}."
        )
    mask = np.zeros(about.n_rows * about.context, dtype=bool)
    for span in kept.spans:
        if progress is not None:
            progress.check()
        for place, latents, _ in read_shard(kept.file(span), context=about.context):
            mask[place[latents == latent]] = True
    return mask.reshape(about.n_rows, about.context)


def conditional_histogram(
    kept: Kept, latent: int, mask: Places, *, progress: Progress | None = None
) -> tuple[
    Float[np.ndarray, " n_bins_plus_1"], Int[np.ndarray, " n_bins"], Int[np.ndarray, " n_bins"]
]:
    """(edges, firings at the masked places, firings elsewhere) of a latent, in log-spaced bins."""
    about, flat = kept.about, mask.ravel()
    inside, outside = np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64)
    for span in kept.spans:
        if progress is not None:
            progress.check()
        for place, latents, value in read_shard(kept.file(span), context=about.context):
            own = latents == latent
            here = flat[place[own]]
            bins = log_bin(value[own])
            inside += np.bincount(bins[here], minlength=N_BINS)
            outside += np.bincount(bins[~here], minlength=N_BINS)
    return bin_edges(), inside, outside


def _table(kept: Kept, mask: Places, progress: Progress | None) -> pd.DataFrame:
    about = kept.about
    if mask.shape != (about.n_rows, about.context):
        raise ValueError(
            f"The places are {mask.shape} and the text of {kept.sae[1]} is "
            f"{(about.n_rows, about.context)}; give those of its own token set."
        )
    rows, flat = rows_of(mask), mask.ravel()
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first, last in kept.spans:
        if progress is not None:
            progress.check()
        if not rows[first:last].any():
            continue
        for place, latent, value in read_shard(
            kept.file((first, last)), context=about.context, wanted=rows
        ):
            here = flat[place]
            found.append((latent[here], value[here], place[here]))
    latent = np.concatenate([np.empty(0, np.int32), *(it[0] for it in found)])
    value = np.concatenate([np.empty(0, np.float32), *(it[1] for it in found)])
    place = np.concatenate([np.empty(0, np.int64), *(it[2] for it in found)])
    totals = kept.totals
    return figures(
        kept.sae,
        latent,
        value,
        place,
        places=int(mask.sum()),
        count=totals.count,
        peak=totals.peak,
    )
