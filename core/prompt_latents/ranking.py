"""Which latents matter in a text? By activation, against their own distribution, or by the loss."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.bins import cell_width
from core.activations.stored_index import open_index
from core.activations.text_index import OpenIndex
from core.prompt_latents.ablation import AblationEffects
from core.prompt_latents.active import PromptRead
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

_VERSION = 2


def activation_quantiles(
    cell_counts: Int[np.ndarray, "n cells"],
    peak: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Share of a latent's firings in the index that are weaker than each value, 0 to 1.

    Row i of the first two (as `LatentIndex` has them) belongs to `values[i]`. Within one of the
    histogram's cells, each 1/32 to 1/16 of the peak wide, firings are taken as evenly spread, which
    bounds the error by the share of the firings in that cell. A value above the latent's peak in
    the index gives 1. NaN for a latent that never fired there.
    """
    peak = np.asarray(peak, dtype=np.float64)
    counts = np.asarray(cell_counts, dtype=np.float64)
    width = cell_width(np.asarray(peak, dtype=np.float32))
    n_cells = counts.shape[1]
    place = np.clip(np.asarray(values, dtype=np.float64) / width, 0, n_cells)
    cell = np.minimum(place.astype(np.int64), n_cells - 1)
    rows = np.arange(len(counts))
    # The cell of the peak ends at the peak.
    upper = np.minimum(cell + 1, np.maximum(peak / width, cell + 1e-12))
    inside = np.clip((place - cell) / (upper - cell), 0, 1)
    total = counts.sum(axis=1)
    below = counts.cumsum(axis=1)[rows, cell] - counts[rows, cell]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (below + inside * counts[rows, cell]) / total
    share = np.where(values > peak, 1.0, share)
    return np.where(total > 0, np.clip(share, 0, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Distributions:
    """Activations of all latents in the text of an index, as histograms."""

    cell_counts: Float[np.ndarray, "d_sae cells"]
    """As `LatentIndex.cell_counts`."""
    peak: Float[np.ndarray, " d_sae"]
    """As `LatentIndex.peak`."""

    def quantiles(
        self, latents: np.ndarray, values: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """`activation_quantiles` of these latents' values."""
        return activation_quantiles(self.cell_counts[latents], self.peak[latents], values)


_CODEC = dataclass_codec(Distributions)


def distributions(store: Store, index: OpenIndex) -> Distributions | None:
    """Of all latents of an index; put aside after the first time, so that it need not be opened
    whole again. None when it is no longer in the store."""
    key = Key("latent-distributions", _VERSION, {"index": index.key.digest})
    found = store.get(key, _CODEC)
    if found is None:
        whole = open_index(store, index.key)
        if whole is None:
            return None
        found = Distributions(whole.cell_counts, whole.peak)
        store.keep(key, found, _CODEC)
    return found


def latents_table(
    read: PromptRead,
    *,
    position: int = 0,
    known: Distributions | None = None,
    effects: AblationEffects | None = None,
) -> pd.DataFrame:
    """Active latents, of one token of the text (`position`, from 1) or of all (0); not yet ranked.

    `latent`, `activation` (the largest), `position` of it among the text's tokens, from 1, `token`
    there, `n_tokens` at which it is active, `quantile` (share of its firings in the index that are
    weaker; NaN if unknown) and `effect` (increase of the loss in nats without it: mean over the
    text, or at the token that follows; NaN if unknown).
    """
    table = read.active.per_latent()
    place = read.place(position) if position else None
    if place is not None:
        here = read.active.at(place)
        n_tokens = table.set_index("latent")["n_tokens"]
        table = here.assign(position=place, n_tokens=n_tokens.reindex(here["latent"]).to_numpy())
    latents, values = table["latent"].to_numpy(), table["activation"].to_numpy()
    quantile = np.full(len(table), np.nan)
    if known is not None and len(table):
        quantile = known.quantiles(latents, values)
    table["token"] = [read.tokens[place] for place in table["position"]]
    table["position"] += 1 - read.n_leading
    table["quantile"] = quantile
    table["effect"] = _effects_of(latents, effects, place)
    return table


def ranked(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The strongest first, by `activation`, `quantile` or `effect`; what is not known comes last.
    An effect counts by its size, whichever way it goes."""
    values = table[by].abs() if by == "effect" else table[by]
    order = np.lexsort((-table["activation"], -values.fillna(-1.0)))
    return table.iloc[order].reset_index(drop=True)


def strongest_per_token(
    read: PromptRead, *, k: int, known: Distributions | None = None, by: str = "activation"
) -> pd.DataFrame:
    """For each token, its `k` first latents by activation or by quantile.

    `position` (among the text's tokens, from 1), `token`, `active` (how many are) and `latents`,
    which is a list of texts such as "12 (3.40)".
    """
    active = read.active
    value = active.value
    score = value
    if by == "quantile" and known is not None and len(value):
        score = np.nan_to_num(known.quantiles(active.latent, value), nan=-1.0)
    order = np.lexsort((-value, -score, active.position))
    starts = np.searchsorted(active.position[order], np.arange(active.n_positions + 1))
    rows = []
    for position in range(read.n_leading, active.n_positions):
        here = order[starts[position] : starts[position + 1]]
        texts = [
            f"{active.latent[i]} ({score[i]:.0%})"
            if score is not value
            else f"{active.latent[i]} ({value[i]:.2f})"
            for i in here[:k]
        ]
        rows.append(
            {
                "position": position - read.n_leading + 1,
                "token": read.tokens[position],
                "active": len(here),
                "latents": texts,
            }
        )
    return pd.DataFrame(rows, columns=["position", "token", "active", "latents"])


def _effects_of(
    latents: np.ndarray, effects: AblationEffects | None, place: int | None
) -> Float[np.ndarray, " n"]:
    found = np.full(len(latents), np.nan)
    if effects is None or len(effects.latents) == 0:
        return found
    if place is None:
        values = effects.mean_increase
    elif place <= effects.increase.shape[1] - 1:
        values = effects.increase[:, place]  # column j predicts token j + 1
    else:
        return found
    row = {int(latent): float(value) for latent, value in zip(effects.latents, values, strict=True)}
    return np.array([row.get(int(latent), np.nan) for latent in latents])
