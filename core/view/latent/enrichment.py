"""The token enrichment tab: sets of tokens, all latents against all of them, and one latent's."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from core.engine import Engine
from core.enrichment import (
    Enrichment,
    TokenSets,
    WordList,
    builtin_sets,
    match_words,
)
from core.enrichment.run import N_CONTROLS, enrich_rows
from core.jobs.progress import Progress
from core.link import Link, LinkField, read_flag, short_text, write_flag
from core.models.stream import StreamPath
from core.saes.writes import WRITES_VERSION, residual_directions, stream_path
from core.store import ARRAYS, JSON, Key, Store
from core.store.fingerprint import fingerprint, fingerprint_of_sae
from core.tokens import TokenTexts, vocabulary_texts
from core.view.selection import Selection

_VERSION = 1
_SEED = 0


@dataclass(frozen=True)
class EnrichmentView:
    """Settings of this tab."""

    chosen: str = ""
    """Name of the set that is looked at; empty for the latent's strongest."""
    mine: str = ""
    """Which of the user's files of sets is used, as `keep_lists` names it; empty for none."""
    weighted: bool = False
    """Whether tokens far from the middle count more in the chosen latent's scores."""
    beyond: bool = True
    """Whether only what few random directions reach is listed and drawn."""


LINK = Link(
    EnrichmentView(),
    (
        LinkField("chosen", "set", short_text(200)),
        LinkField("mine", "sets", short_text(64)),
        LinkField("weighted", "weighted", read_flag, write_flag),
        LinkField("beyond", "beyond", read_flag, write_flag),
    ),
)
"""How a view is written to the link and read from it."""


@dataclass(frozen=True, eq=False)
class SetsFound:
    """The sets that are looked for in a model's vocabulary."""

    vocabulary: TokenTexts
    """The tokens."""
    sets: TokenSets
    """Built-in ones, then the user's."""
    missing: dict[str, tuple[str, ...]]
    """By list of the user's, the words that are no single token."""


@dataclass(frozen=True, eq=False)
class EnrichmentFound:
    """What the tab shows."""

    found: SetsFound
    """The sets."""
    all: Enrichment
    """All latents against all sets."""
    beyond: Float[np.ndarray, "n n_sets"]
    """`Enrichment.beyond_controls`."""


def keep_lists(store: Store, lists: list[WordList]) -> str:
    """Keep a user's lists; returns the name under which a link finds them."""
    content = [[it.name, list(it.words)] for it in lists]
    name = Key("token-lists", _VERSION, {"lists": json.dumps(content)}).digest[:24]
    # Nobody can compute them again, so they lie with what is never evicted.
    store.put(Key("token-lists", _VERSION, {"name": name}), content, JSON, paid=True)
    return name


def kept_lists(store: Store, name: str) -> list[WordList]:
    """What `keep_lists` kept. Raises ValueError when there is nothing of that name."""
    content = store.get(Key("token-lists", _VERSION, {"name": name}), JSON, paid=True)
    if content is None:
        raise ValueError("The sets of your own in this link are not on this server; upload them.")
    return [WordList(title, tuple(words)) for title, words in content]


def find_sets(engine: Engine, store: Store, selection: Selection, mine: str) -> SetsFound:
    """Built-in and the user's sets in the model's vocabulary.

    Raises ValueError for a model without tokenizer, or lists that are not there.
    """
    lists = kept_lists(store, mine) if mine else []
    with engine.use(selection.model) as (model, _):
        vocabulary = vocabulary_texts(model)
    sets, missing = builtin_sets(vocabulary), {}
    if lists:
        matched = match_words(vocabulary, lists)
        sets, missing = sets.joined(matched.sets), matched.missing
    return SetsFound(vocabulary, sets, missing)


def all_enrichment(
    engine: Engine, store: Store, selection: Selection, mine: str, progress: Progress
) -> EnrichmentFound:
    """All latents of the selected SAE against all sets; from the store or computed now.

    The model is only held to make a piece of logits at a time, not to rank them.

    Raises ValueError for a site that maps to no tokens, and as `find_sets`.
    """
    found = find_sets(engine, store, selection, mine)
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        d_sae, d_model = sae.cfg.d_sae, int(model.W_U.shape[0])
        path = stream_path(model, sae)  # raises before any work
        parts = {
            "sae": fingerprint_of_sae(sae),
            "W_U": fingerprint({"W_U": model.W_U.detach()}),
            "way": [WRITES_VERSION, _digest_of_way(path), path.factor],
            "sets": found.sets.digest,
            "controls": [N_CONTROLS, _SEED],
        }
    random = torch.randn(N_CONTROLS, d_model, generator=torch.Generator().manual_seed(_SEED))

    def logits_of(first: int, last: int) -> np.ndarray:
        with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
            directions = residual_directions(model, sae, range(first, last))
            return (directions.to(model.W_U) @ model.W_U).float().cpu().numpy()

    def controls_of(first: int, last: int) -> np.ndarray:
        with engine.use(selection.model) as (model, _):
            return (random[first:last].to(model.W_U) @ model.W_U).float().cpu().numpy()

    arrays = store.get_or_compute(
        Key("token-enrichment", _VERSION, parts),
        lambda: enrich_rows(
            logits_of,
            d_sae,
            found.sets,
            controls_of=controls_of,
            n_controls=N_CONTROLS,
            progress=progress,
        ).to_arrays(),
        ARRAYS,
        waiting=progress.check,
    )
    result = Enrichment.from_arrays(arrays)
    return EnrichmentFound(found, result, result.beyond_controls())


def logits_of_latent(engine: Engine, selection: Selection) -> Float[np.ndarray, " d_vocab"]:
    """Effects of the selected latent on all tokens (float32)."""
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        direction = residual_directions(model, sae, [selection.latent])
        return (direction.to(model.W_U) @ model.W_U)[0].float().cpu().numpy()


def pairs_table(
    shown: EnrichmentFound, *, most: int, beyond: float | None, latent: int | None = None
) -> pd.DataFrame:
    """The `most` strongest pairs of latent and set, by p-value, then by score; of one latent, those
    first that the fewest random directions reach.

    `latent`, `set`, `group`, `size`, `score`, `log10_p`, `q`, `beyond` (share of random directions
    as far out). With `beyond`, only pairs that at most that share of random directions reach; with
    `latent`, only its own.
    """
    data, sets = shown.all, shown.found.sets
    usable = np.isfinite(data.log10_p)
    if beyond is not None:
        usable &= shown.beyond <= beyond
    if latent is not None:
        only = np.zeros(len(usable), dtype=bool)
        only[latent] = True
        usable &= only[:, None]
    rows, columns = np.nonzero(usable)
    keys = [-np.abs(data.scores[rows, columns]), data.log10_p[rows, columns]]
    if latent is not None:
        keys.append(shown.beyond[rows, columns])
    order = np.lexsort(keys)[:most]
    rows, columns = rows[order], columns[order]
    named = list(sets)
    return pd.DataFrame(
        {
            "latent": rows,
            "set": [named[it].name for it in columns],
            "group": [named[it].group for it in columns],
            "size": [len(named[it].ids) for it in columns],
            "score": data.scores[rows, columns],
            "log10_p": data.log10_p[rows, columns],
            "q": data.q[rows, columns],
            "beyond": shown.beyond[rows, columns],
        }
    )


def _digest_of_way(path: StreamPath) -> str:
    """What the directions of an SAE inside a layer depend on besides the SAE; "" for nothing."""
    gain = None if path.norm is None else path.norm.gain
    tensors = {"weights": path.weights, "gain": gain}
    present = {name: it for name, it in tensors.items() if it is not None}
    return fingerprint(present) if present else ""
