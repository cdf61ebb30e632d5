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

from core.activations.build import build_statistics
from core.activations.firings import Firings, collect_firings
from core.corpus.bos import token_in_front
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, prompt_tokens
from core.corpus.token_set import TokenSet
from core.descriptions.offline import DESCRIBER_VERSION
from core.descriptions.saved import remember_offline
from core.descriptions.table import Descriptions
from core.lease import Lease
from core.saes.writes import WRITES_VERSION
from core.splitting.members import Member
from core.splitting.sample_words import CONFIG, SampleTimes, describe_states, sample_tokens
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.view.corpora import SAMPLE_TOKENS

FIRING_TOKENS = 50_000
"""Of these, tokens whose firings are kept one by one."""
_PARTS = (("text", SAMPLE_TOKENS), ("firings", FIRING_TOKENS), ("read", SAMPLE_TOKENS))
"""What is done with how many tokens, before each SAE is described."""
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
    times = SampleTimes.of(lease, store)
    lease.progress.plan(*times.parts(*_PARTS))
    token_set = sample_tokens(lease, store, corpus, times)
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
            store.keep(keys[number], evidence, _EVIDENCE)
            remember_offline(store, lease.sae_fingerprints[number], evidence.offline)
            found[number] = evidence
    return {label: one for label, one in zip(labels, found, strict=True) if one is not None}


def fires_in_text(lease: Lease, text: str) -> list[Firings]:
    """Firings of each SAE of the lease on the tokens of `text`.

    Raises ValueError where it has no token, or for SAEs that do not agree about BOS.
    """
    with lease.turn() as (model, saes):
        token_in_front(model, saes)
        tokens = prompt_tokens([text], model.tokenizer, default_packing(model, saes[0]))
    return collect_firings(lease, tokens, max_tokens=max(1, tokens.n_tokens))


def evidence_key(model: str, members: Sequence[Member], corpus: Corpus) -> str:
    """Key of the job that reads the sample."""
    saes = [[*member.entry.key, member.entry.version] for member in members]
    return "evidence:" + json.dumps([model, saes, corpus.digest])


def expected_seconds(store: Store, model: str, widths: Sequence[int]) -> float:
    """About how long `read_sample` takes with SAEs of these widths; `model` is its fingerprint."""
    return sum(SampleTimes(store, model, widths).parts(*_PARTS))


def _compute(lease: Lease, store: Store, token_set: TokenSet, corpus: Corpus) -> list[Evidence]:
    progress, times = lease.progress, SampleTimes.of(lease, store)
    # Anew: the text is there, mostly at once, which tells nothing of the rest.
    progress.plan(*times.parts(*_PARTS[1:]))
    with times.measured("firings", FIRING_TOKENS):
        firings = _firings(lease, token_set)
    progress.next_part()
    with times.measured("read", token_set.n_tokens):
        states = build_statistics(lease, token_set, CONFIG)
    found = []
    for number, described in enumerate(describe_states(lease, store, token_set, states, times)):
        index = described.index
        found.append(
            Evidence(
                counts=np.asarray(index.count),
                n_tokens=int(index.n_tokens),
                firings=firings[number],
                offline=described.offline,
                corpus=corpus.name,
            )
        )
    return found


def _firings(lease: Lease, token_set: TokenSet) -> list[Firings]:
    """Firings on the first rows of the sample."""
    last = int(np.searchsorted(token_set.mask.sum(1).cumsum(), FIRING_TOKENS)) + 1
    sample = token_set.rows(0, min(last, token_set.n_rows))
    return collect_firings(lease, sample, max_tokens=sample.n_tokens)
