"""Scores, p-values and false-discovery rates of all latents and all sets of tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from core.enrichment.builtin import builtin_sets
from core.enrichment.null import log_p_value
from core.enrichment.score import set_scores
from core.enrichment.token_sets import TokenSets
from core.enrichment.user_sets import load_lists, match_words
from core.jobs.progress import Progress
from core.lease import Lease
from core.saes.writes import WRITES_VERSION, residual_directions, stream_path
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import TokenTexts, vocabulary_texts

LogitsOf = Callable[[int, int], Float[np.ndarray, "n d_vocab"]]
"""Logits of the latents from the first to before the last, for all tokens."""

_VERSION = 2
_SEED = 0
_PIECE_BYTES = 8 << 20
N_CONTROLS = 1000
"""Random directions that scores are compared with."""


@dataclass(frozen=True, eq=False)
class Enrichment:
    """All latents against all sets; rows are latents, columns sets, as in `TokenSets`."""

    scores: Float[np.ndarray, "n n_sets"]
    """Signed unweighted scores, -1 to 1 (float32)."""
    log10_p: Float[np.ndarray, "n n_sets"]
    """log10 of the two-sided p-value for a random set of as many tokens (float32)."""
    q: Float[np.ndarray, "n n_sets"]
    """False-discovery rate at which a score counts as enriched (float32): Benjamini and Hochberg,
    over all latents and sets."""
    controls: Float[np.ndarray, "n_controls n_sets"]
    """Scores of random directions (float32)."""

    def beyond_controls(self) -> Float[np.ndarray, "n n_sets"]:
        """Share of random directions with a score as far from 0 or farther, counted with the
        latent itself, so at least 1 / (n_controls + 1). NaN where there is no score."""
        found = np.full(self.scores.shape, np.nan, dtype=np.float32)
        for column in range(self.scores.shape[1]):
            reached = np.sort(np.abs(self.controls[:, column]))
            reached = reached[np.isfinite(reached)]
            below = np.searchsorted(reached, np.abs(self.scores[:, column]), side="left")
            found[:, column] = (1 + len(reached) - below) / (1 + len(reached))
        return np.where(np.isfinite(self.scores), found, np.nan)


_CODEC = dataclass_codec(Enrichment)


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


def find_sets(lease: Lease, store: Store, mine: str = "") -> SetsFound:
    """Built-in sets in the vocabulary of the lease's model, and the user's lists that
    `user_sets.store_lists` called `mine`.

    Raises ValueError for a model without tokenizer, or lists that are not there.
    """
    lists = load_lists(store, mine) if mine else []
    with lease.turn() as (model, _):
        vocabulary = vocabulary_texts(model)
    sets, missing = builtin_sets(vocabulary), {}
    if lists:
        matched = match_words(vocabulary, lists)
        sets, missing = sets.joined(matched.sets), matched.missing
    return SetsFound(vocabulary, sets, missing)


def enrichment_of_sae(lease: Lease, store: Store, mine: str = "") -> EnrichmentFound:
    """All latents of the lease's first SAE against all sets; from the store or computed now.

    Raises ValueError for a site that maps to no tokens, and as `find_sets`.
    """
    found = find_sets(lease, store, mine)
    with lease.turn() as (model, (sae, *_)):
        factor = stream_path(model, sae).factor  # raises before any work
    n_controls = N_CONTROLS
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "writes": [WRITES_VERSION, factor],
        "sets": found.sets.digest,
        "controls": [n_controls, _SEED],
    }
    result = store.get_or_compute(
        Key("token-enrichment", _VERSION, parameters),
        lambda: enrich_latents(lease, found.sets, n_controls=n_controls),
        _CODEC,
        waiting=lease.progress.check,
    )
    return EnrichmentFound(found, result, result.beyond_controls())


def enrich_latents(
    lease: Lease, sets: TokenSets, *, n_controls: int = N_CONTROLS, seed: int = _SEED
) -> Enrichment:
    """As `enrich`, of all latents of the lease's first SAE, by what they write to the stream.

    The model is only held to make a piece of logits at a time, not to rank them.
    """
    with lease.turn() as (model, (sae, *_)):
        d_sae, d_model = sae.cfg.d_sae, int(model.W_U.shape[0])
    random = torch.randn(n_controls, d_model, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def logits_of(first: int, last: int) -> np.ndarray:
        with lease.turn() as (model, (sae, *_)):
            directions = residual_directions(model, sae, range(first, last))
            return (directions.to(model.W_U) @ model.W_U).float().cpu().numpy()

    @torch.no_grad()
    def controls_of(first: int, last: int) -> np.ndarray:
        with lease.turn() as (model, _):
            return (random[first:last].to(model.W_U) @ model.W_U).float().cpu().numpy()

    return enrich(
        logits_of,
        d_sae,
        sets,
        controls_of=controls_of,
        n_controls=n_controls,
        progress=lease.progress,
    )


def enrich(
    logits_of: LogitsOf,
    n_latents: int,
    sets: TokenSets,
    *,
    controls_of: LogitsOf,
    n_controls: int = N_CONTROLS,
    progress: Progress | None = None,
) -> Enrichment:
    """Score all latents against all sets, some 8 MB of logits at a time.

    `controls_of` gives the logits of random directions, which tell what any direction in this
    model reaches: tokens of one kind lie together in the unembedding, so random directions, too,
    are far more enriched than random sets of tokens.

    Some 25 ms a latent for 57 sets and 50,000 tokens on one CPU core, so ten minutes for 24,576
    latents; 100 MB or so beyond the results, which take 12 bytes a latent and set.

    Raises ValueError when there is no set.
    """
    if len(sets) == 0:
        raise ValueError("There is no set of tokens to look for; give at least one.")
    total = n_latents + n_controls
    controls = _all_scores(controls_of, n_controls, sets, progress, done=0, total=total)
    scores = _all_scores(logits_of, n_latents, sets, progress, done=n_controls, total=total)
    log_p = np.empty(scores.shape)
    for column, size in enumerate(sets.sizes):
        log_p[:, column] = log_p_value(scores[:, column], int(size), len(sets.universe))
    return Enrichment(
        scores=scores.astype(np.float32),
        log10_p=(log_p / np.log(10)).astype(np.float32),
        q=_false_discovery(log_p).astype(np.float32),
        controls=controls.astype(np.float32),
    )


def _false_discovery(log_p: Float[np.ndarray, "n n_sets"]) -> Float[np.ndarray, "n n_sets"]:
    found = np.full(log_p.shape, np.nan)
    tested = np.isfinite(log_p)
    if tested.any():
        found[tested] = stats.false_discovery_control(np.exp(log_p[tested]), method="bh")
    return found


def _all_scores(
    logits_of: LogitsOf,
    n: int,
    sets: TokenSets,
    progress: Progress | None,
    *,
    done: int,
    total: int,
) -> Float[np.ndarray, "n n_sets"]:
    step = max(1, _PIECE_BYTES // (4 * len(sets.universe)))
    scores = np.empty((n, len(sets)))
    for first in range(0, n, step):
        if progress is not None:
            progress.update(done + first, total, unit="directions", message="Ranking the tokens")
        last = min(first + step, n)
        logits = logits_of(first, last)
        scores[first:last] = set_scores(logits, sets)
    if progress is not None:
        progress.update(done + n, total, unit="directions", message="Ranking the tokens")
    return scores
