"""What the latents of several SAEs do on a sample of text: how often, where, and together.

One run of the model for all SAEs, in leases of a few thousand tokens, so that other users get their
turn in between. Kept in the store; the same sample gives frequencies, the offline descriptions and
the firings that the splitting tree compares.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from core.activations.build import build_states
from core.activations.config import IndexConfig
from core.activations.firings import Firings, collect_firings
from core.activations.index import finish
from core.corpus.beginning import beginning
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set, prompt_tokens
from core.corpus.token_set import TokenSet
from core.descriptions.offline import DESCRIBER_VERSION, describe_latents
from core.descriptions.table import OFFLINE, Descriptions
from core.lease import Lease
from core.saes.writes import WRITES_VERSION
from core.splitting.members import Member
from core.splitting.tokens import all_directions, top_token_ids
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import vocabulary_texts, whole_characters

N_TOKENS = 10
"""Boosted and suppressed tokens of each latent, here and on the map: stored once for both."""
SAMPLE_TOKENS = 200_000
"""Tokens read for frequencies and descriptions."""
FIRING_TOKENS = 50_000
"""Of these, tokens whose firings are kept one by one."""
_BEFORE = _AFTER = 8
_CONFIG = IndexConfig(n_top=12, n_quantiles=1, per_quantile=1, buffer=0, n_partners=0)
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Evidence:
    """One SAE on the sample."""

    counts: Int[np.ndarray, " d_sae"]
    """Positions at which each latent fires."""
    n_tokens: int
    """Positions looked at."""
    firings: Firings
    """Every firing on a part of the sample, at the same positions for all SAEs."""
    offline: Descriptions
    """What the offline describer says of each latent."""
    corpus: str
    """Name of the text."""

    @property
    def frequency(self) -> Float[np.ndarray, " d_sae"]:
        """Share of the positions at which each latent fires."""
        return self.counts / self.n_tokens

    @property
    def dead(self) -> np.ndarray:
        """Which latents never fired, as bool [d_sae]."""
        return self.counts == 0


_EVIDENCE = dataclass_codec(Evidence)


def read_sample(
    lease: Lease, store: Store, labels: Sequence[str], corpus: Corpus
) -> dict[str, Evidence]:
    """Evidence for each SAE of the lease, by its label; computed where the store has none.

    Raises:
        ValueError: the corpus cannot be read, an SAE does not fit the model, or SAEs do not agree
            about BOS.
    """
    with lease.turn() as (model, saes):
        beginning(model, saes)  # all are looked at on the same tokens
        packing = default_packing(model, saes[0], max_tokens=SAMPLE_TOKENS)
    token_set = load_token_set(
        corpus, lease.tokenizer, packing, store=store, progress=lease.progress
    )
    parameters = {
        "model": lease.model_fingerprint,
        "tokens": token_set.digest,
        "describer": DESCRIBER_VERSION,
        "writes": WRITES_VERSION,
    }
    keys = [
        Key("splitting-evidence", _VERSION, parameters | {"sae": fingerprint})
        for fingerprint in lease.sae_fingerprints
    ]
    found = [store.get(key, _EVIDENCE) for key in keys]
    missing = [number for number, known in enumerate(found) if known is None]
    if missing:
        computed = _compute(lease.with_saes(missing), store, token_set, corpus)
        for number, evidence in zip(missing, computed, strict=True):
            store.put(keys[number], evidence, _EVIDENCE)
            found[number] = evidence
    return {label: one for label, one in zip(labels, found, strict=True) if one is not None}


def fires_in_text(lease: Lease, text: str) -> list[Firings]:
    """Firings of each SAE of the lease on the tokens of `text`.

    Raises ValueError where it has no token, or for SAEs that do not agree about BOS.
    """
    with lease.turn() as (model, saes):
        beginning(model, saes)
        tokens = prompt_tokens([text], model.tokenizer, default_packing(model, saes[0]))
    return collect_firings(lease, tokens, max_tokens=max(1, tokens.n_tokens))


def evidence_key(model: str, members: Sequence[Member], corpus: Corpus) -> str:
    """Key of the job that reads the sample."""
    saes = [[*member.entry.key, member.entry.version] for member in members]
    return "evidence:" + json.dumps([model, saes, corpus.digest])


def _compute(lease: Lease, store: Store, token_set: TokenSet, corpus: Corpus) -> list[Evidence]:
    firings = _firings(lease, token_set)
    states = build_states(lease, token_set, _CONFIG)
    with lease.turn() as (model, _):
        token_texts, W_U = vocabulary_texts(model), model.W_U.detach().clone()
    found = []
    for number, state in enumerate(states):
        lease.progress.update(number, len(states), unit="SAEs", message="Describing latents")
        index = finish(state)
        with lease.turn() as (model, saes):
            directions = all_directions(model, saes[number])
        tokens = top_token_ids(directions, W_U, N_TOKENS, store=store, progress=lease.progress)
        windows, vocabulary = whole_characters(
            index.windows(token_set, _BEFORE, _AFTER), token_texts
        )
        texts = describe_latents(
            windows,
            index.top_values,
            vocabulary,
            n_before=_BEFORE,
            boosted=tokens.boosted,
            special_ids=lease.tokenizer.all_special_ids,
        ).texts
        found.append(
            Evidence(
                counts=np.asarray(index.count),
                n_tokens=int(index.n_tokens),
                firings=firings[number],
                offline=Descriptions.from_texts(texts, source=OFFLINE),
                corpus=corpus.name,
            )
        )
    return found


def _firings(lease: Lease, token_set: TokenSet) -> list[Firings]:
    """Firings on the first rows of the sample."""
    last = int(np.searchsorted(token_set.mask.sum(1).cumsum(), FIRING_TOKENS)) + 1
    sample = token_set.rows(0, min(last, token_set.n_rows))
    return collect_firings(lease, sample, max_tokens=sample.n_tokens)
