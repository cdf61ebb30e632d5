"""All latents of an indexed SAE: what is said of each, and a table of them to choose from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.stored_index import open_index
from core.activations.text_index import OpenIndex
from core.descriptions.offline import DESCRIBER_VERSION, describe_latents
from core.descriptions.saved import load_user_descriptions, recall_offline, remember_offline
from core.descriptions.search import search_texts
from core.descriptions.table import OFFLINE, Descriptions
from core.lease import Lease
from core.logit_lens import all_directions, top_token_ids
from core.logit_statistics import logit_moments
from core.saes.writes import WRITES_VERSION
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import whole_characters

# As for the map of feature splitting, so that both pages say the same of a latent.
_N_TOP = 12
_BEFORE = _AFTER = 8
_N_TOKENS = 10
_VERSION = 2
_N_BINS = 40
_BEYOND = 0.05


@dataclass(frozen=True, eq=False)
class AllLatents:
    """What is said of all latents of one SAE."""

    offline: Descriptions
    """What the offline describer says of each."""
    logit_skew: Float[np.ndarray, " d_sae"]
    """Skewness of each latent's effects on the vocabulary; NaN where it has none."""


_CODEC = dataclass_codec(AllLatents)


def all_latents(lease: Lease, store: Store, index: OpenIndex) -> AllLatents:
    """Descriptions and skewness of every latent of the lease's first SAE, which `index` is of;
    from the store or made now.

    Raises ValueError when the index has left the store, or for a site that does not write to the
    residual stream.
    """
    parameters = {
        "index": index.key.digest,
        "describer": DESCRIBER_VERSION,
        "writes": WRITES_VERSION,
        "n_top": _N_TOP,
    }
    key = Key("latent-texts", _VERSION, parameters)
    found = store.get_or_compute(
        key, lambda: _described(lease, store, index), _CODEC, waiting=lease.progress.check
    )
    remember_offline(store, index.sae_fingerprint, found.offline)
    return found


def _described(lease: Lease, store: Store, index: OpenIndex) -> AllLatents:
    with lease.turn() as (model, (sae, *_)):
        directions, W_U = all_directions(model, sae), model.W_U.detach().clone()
    moments = logit_moments(directions, W_U, store=store, progress=lease.progress)
    tokens = top_token_ids(directions, W_U, _N_TOKENS, store=store, progress=lease.progress)
    whole = open_index(store, index.key)
    if whole is None:
        raise ValueError("The index was removed from the disk meanwhile; try again.")
    windows, vocabulary = whole_characters(
        index.token_set.windows(whole.top_places[:, :_N_TOP], _BEFORE, _AFTER), index.vocabulary
    )
    texts = describe_latents(
        windows,
        whole.top_values[:, :_N_TOP],
        vocabulary,
        n_before=_BEFORE,
        boosted=tokens.boosted,
        special_ids=index.special_ids,
        progress=lease.progress,
    ).texts
    return AllLatents(Descriptions.from_texts(texts, source=OFFLINE), moments.skewness)


def best_texts(
    store: Store,
    index: OpenIndex,
    *,
    published: Descriptions | None = None,
    offline: Descriptions | None = None,
) -> Descriptions:
    """One description of each latent: the user's, else the published, else the offline one."""
    d_sae = index.d_sae
    if offline is None:
        offline = recall_offline(store, index.sae_fingerprint, d_sae)
    chain = [load_user_descriptions(store, index.sae_fingerprint, d_sae), published, offline]
    known = [one for one in chain if one is not None and one.d_sae == d_sae]
    return Descriptions.none(d_sae).merge(*known)


@dataclass(frozen=True, eq=False)
class DensityHistogram:
    """How many latents are how often active."""

    counts: Int[np.ndarray, " n"]
    """Latents in each bin; dead ones are in none."""
    edges: Float[np.ndarray, " n_plus_1"]
    """Edges, as powers of ten of the share of tokens."""
    n_dead: int
    """Latents that were never active."""


def density_histogram(summary: pd.DataFrame, *, n_bins: int = _N_BINS) -> DensityHistogram:
    """Latents by log10 of their density, from the `summary` of an index."""
    values = summary["log10_frequency"].to_numpy()
    alive = values[np.isfinite(values)]
    if len(alive) == 0:
        return DensityHistogram(np.zeros(0, dtype=np.int64), np.zeros(1), len(values))
    low, high = float(alive.min()), float(alive.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    counts, edges = np.histogram(alive, bins=n_bins, range=(low, high))
    return DensityHistogram(counts, edges, len(values) - len(alive))


def latent_table(
    summary: pd.DataFrame,
    *,
    texts: "np.ndarray | None" = None,
    logit_skew: Float[np.ndarray, " d_sae"] | None = None,
    order: str = "latent",
    kind: str = "all",
    density: tuple[float, ...] = (),
    words: str = "",
    scores: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Latents with what is known of them, as they were asked for.

    Args:
        summary: `LatentIndex.summary` of the whole SAE.
        texts: a description of each latent, `""` for none.
        logit_skew: skewness of each latent's effects on the vocabulary.
        order: `latent`, `frequent`, `rare`, `strong`, `skewed`, `lens`, `output` or `input`;
            latents for which it cannot be told come last, and equal ones by number. By number,
            those that were never active come last as well.
        kind: `all`, `alive`, `dead`, or `steer`: whose output score is beyond 95 % of random
            directions (all, without scores).
        density: lowest and highest log10 of the share of tokens; empty for any.
        words: what the description must hold, as `core.descriptions.search.search_texts` reads it.
        scores: a row for each latent, as `core.steering.score_run` gives them.

    Returns:
        Columns `latent`, `description`, `density`, `mean`, `max`, `skew`, `logit_skew`; those of
        `scores` after the description.

    Raises:
        ValueError: an unknown order or kind, or a `density` that is not two ascending numbers.
    """
    keys = {
        "latent": None,
        "frequent": "density",
        "rare": "density",
        "strong": "max",
        "skewed": "skew",
        "lens": "logit_skew",
        "output": "output_score",
        "input": "input_score",
    }
    if order not in keys or kind not in ("all", "alive", "dead", "steer"):
        raise ValueError(f"Order {order!r} or kind {kind!r} does not exist; choose another.")
    if density and not (len(density) == 2 and density[0] <= density[1]):
        raise ValueError(f"The density {density} is not a lowest and a highest power of ten.")
    n = len(summary)
    nothing = np.full(n, np.nan)
    alive = summary["count"].to_numpy() > 0
    table = pd.DataFrame(
        {
            "latent": summary["latent"].to_numpy(),
            "description": np.full(n, "", dtype=object) if texts is None else texts,
            "density": summary["frequency"].to_numpy(),
            "mean": summary["mean"].to_numpy(),
            "max": np.where(alive, summary["max"].to_numpy(), np.nan),
            "skew": summary["skew"].to_numpy(),
            "logit_skew": nothing if logit_skew is None else logit_skew,
        }
    )
    if scores is not None:
        # Beside the descriptions: whoever asked for scores wants to see them.
        named = table[["latent", "description"]].merge(scores, on="latent", how="left")
        table = pd.concat([named, table.drop(columns=["latent", "description"])], axis=1)
    shown = np.ones(n, dtype=bool)
    if kind in ("alive", "dead"):
        shown = alive == (kind == "alive")
    elif kind == "steer" and scores is not None:
        shown = (table["output_p"] <= _BEYOND).to_numpy()
    if density:
        logs = summary["log10_frequency"].to_numpy()
        shown &= np.isfinite(logs) & (logs >= density[0]) & (logs <= density[1])
    if words:
        shown &= np.asarray(search_texts(table["description"].tolist(), words))
    table = table[shown]
    if order == "latent":
        # Whoever begins at the top wants to see something.
        table = table.iloc[np.argsort(~alive[shown], kind="stable")]
    by = keys[order]
    if by is not None and by in table:
        # Those never active are not the rarest: there is nothing to see of them.
        value = table[by].where(alive[shown] | (order in ("output", "input")))
        values = value if order == "rare" else -value
        table = table.loc[values.sort_values(kind="stable", na_position="last").index]
    return table.reset_index(drop=True)
