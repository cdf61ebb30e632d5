"""Decompositions as tables."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from core.fit_check.sums import Figure
from core.meta_sae.found import MetaFound
from core.meta_sae.measure import Decompositions, Pursuit

_NAMED = 5


def evidence_table(made: Decompositions) -> pd.DataFrame:
    """How much of the rows' variance each way explains: `way`, `explained` with `low` and `high`
    (95 %, rows drawn with replacement), `null`, `excess` over it, `n` (rows), and `null_is`."""
    gaussian, dealt = "Gaussian rows of the same covariance", "coordinates permuted"
    ways: list[tuple[str, Figure, float, str]] = [
        ("meta-SAE", made.explained, made.gaussian, gaussian),
        ("meta-SAE", made.explained, made.permuted, dealt),
        ("its own other latents", made.own.explained, made.own.null, "random directions"),
    ]
    if made.narrower is not None:
        it = made.narrower
        ways.append(("latents of the narrower SAE", it.explained, it.null, "random directions"))
    rows = [
        {
            "way": way,
            "explained": found.value,
            "low": found.low,
            "high": found.high,
            "null": null,
            "excess": found.value - null,
            "n": len(made.latents),
            "null_is": said,
        }
        for way, found, null, said in ways
    ]
    return pd.DataFrame(rows)


def meta_table(found: MetaFound, words: Sequence[str]) -> pd.DataFrame:
    """A row for each meta-latent, those of most latents first: `meta`, `latents` (how many it is
    active for), `share` (of all), `matched` (cosine with its partner under another seed),
    `matched_null` (with its partner in the meta-SAE of Gaussian rows), `strongest` (latents),
    `words` (`core.meta_sae.words`) and `tokens` (that its direction boosts)."""
    made = found.made
    columns = made.acts.tocsc()
    counts = np.diff(columns.indptr)
    strongest = []
    for at in range(len(counts)):
        part = slice(columns.indptr[at], columns.indptr[at + 1])
        best = columns.indices[part][np.argsort(-columns.data[part], kind="stable")[:_NAMED]]
        strongest.append(" ".join(map(str, made.latents[best])))
    table = pd.DataFrame(
        {
            "meta": np.arange(len(counts)),
            "latents": counts,
            "share": counts / len(made.latents),
            "matched": made.matched,
            "matched_null": made.matched_null,
            "strongest": strongest,
            "words": list(words),
            "tokens": list(found.tokens),
        }
    )
    return table.sort_values("latents", ascending=False, kind="stable", ignore_index=True)


def members_table(made: Decompositions, meta: int, texts: Sequence[str]) -> pd.DataFrame:
    """The latents of a meta-latent, the strongest first: `latent`, `activation`, `share` (of what
    the latent's meta-latents write, by squared length), `text`. Raises ValueError for a meta-latent
    that does not exist."""
    width = made.acts.shape[1]
    if not 0 <= meta < width:
        raise ValueError(f"There is no meta-latent {meta}; choose 0 to {width - 1}.")
    column = made.acts[:, [meta]].tocoo()
    places = column.coords[0]
    squares = np.asarray(made.acts.multiply(made.acts).sum(1)).ravel()
    table = pd.DataFrame(
        {
            "latent": made.latents[places],
            "activation": column.data,
            "share": column.data**2 / np.maximum(squares[places], 1e-12),
            "text": [texts[it] for it in places],
        }
    )
    return table.sort_values("activation", ascending=False, kind="stable", ignore_index=True)


def parts_table(found: MetaFound, place: int, words: Sequence[str]) -> pd.DataFrame:
    """The meta-latents of the latent at a place, the strongest first: `meta`, `activation`,
    `matched`, `latents` (how many have it), `words`, `tokens`."""
    made = found.made
    row = made.acts[[place]].tocoo()
    metas = row.coords[1]
    counts = np.bincount(made.acts.indices, minlength=made.acts.shape[1])
    table = pd.DataFrame(
        {
            "meta": metas,
            "activation": row.data,
            "matched": made.matched[metas],
            "latents": counts[metas],
            "words": [words[it] for it in metas],
            "tokens": [found.tokens[it] for it in metas],
        }
    )
    return table.sort_values("activation", ascending=False, kind="stable", ignore_index=True)


def pursuit_table(pursuit: Pursuit, place: int, latents: np.ndarray | None) -> pd.DataFrame:
    """The directions that matching pursuit takes for a row: `latent`, `coefficient`. `latents` are
    the numbers of the directions, in order (None: 0, 1, 2, ...)."""
    row = pursuit.coefficients[[place]].tocoo()
    numbers = row.coords[1] if latents is None else latents[row.coords[1]]
    table = pd.DataFrame({"latent": numbers, "coefficient": row.data})
    return table.sort_values("coefficient", ascending=False, kind="stable", ignore_index=True)


def neighbours_table(
    made: Decompositions, place: int, texts: Sequence[str], *, most: int = 20
) -> pd.DataFrame:
    """Latents that share meta-latents with the one at a place, those most alike first: `latent`,
    `shared` (meta-latents), `chance` (how many it shares with a latent on average, were each
    meta-latent dealt among the latents anew), `likeness` (cosine of the two lists of activations),
    `text`."""
    acts = made.acts
    lengths = np.sqrt(np.asarray(acts.multiply(acts).sum(1)).ravel())
    active = csr_array((np.ones(acts.nnz), acts.indices, acts.indptr), shape=acts.shape)
    shared = np.asarray((active @ active[[place]].T).todense()).ravel()
    dots = np.asarray((acts @ acts[[place]].T).todense()).ravel()
    likeness = dots / np.maximum(lengths * lengths[place], 1e-12)
    shared[place] = 0
    order = np.lexsort((-likeness, shared == 0))[:most]
    order = order[shared[order] > 0]
    often = np.bincount(acts.indices, minlength=acts.shape[1]) / acts.shape[0]
    metas = acts.indices[acts.indptr[place] : acts.indptr[place + 1]]
    return pd.DataFrame(
        {
            "latent": made.latents[order],
            "shared": shared[order].astype(int),
            "chance": float(often[metas].sum()),
            "likeness": likeness[order],
            "text": [texts[it] for it in order],
        }
    )
