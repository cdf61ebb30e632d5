"""What is said of the latents of several SAEs after one run of the model over a sample of text."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from core.activations.build import build_statistics
from core.activations.config import IndexConfig
from core.activations.index import LatentIndex, finish
from core.activations.statistics import LatentStatistics
from core.corpus.bos import token_in_front
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.descriptions.offline import describe_latents
from core.descriptions.saved import remember_offline
from core.descriptions.table import OFFLINE, Descriptions
from core.lease import Lease
from core.logit_lens import all_directions, top_token_ids
from core.store import Store
from core.tokens import vocabulary_texts, whole_characters
from core.urgency import sharing
from core.usual_time import measured, remember_time, usual_seconds
from core.view.corpora import SAMPLE_TOKENS

N_TOKENS = 10
"""Boosted and suppressed tokens of each latent, here and on the map: stored once for both."""
CONFIG = IndexConfig(n_top=12, n_quantiles=1, per_quantile=1, buffer=0, n_partners=0)
"""What is kept of each latent while the sample is read."""
_BEFORE = _AFTER = 8
_SECONDS = {"text": 5e-5, "firings": 8e-8, "read": 5e-8, "describe": 5e-4}
"""Seconds a token and latent (of "text": a token, of "describe": a latent) before they were
measured here: those of the demo's model on two cores."""


@dataclass(frozen=True, eq=False)
class DescribedState:
    """One SAE on the sample."""

    index: LatentIndex
    """Where its latents fire."""
    offline: Descriptions
    """What the offline describer says of each."""


def describe_sample(lease: Lease, store: Store, corpus: Corpus) -> None:
    """Have something said of each latent of the lease's SAEs that fires on the sample; kept.

    Raises:
        ValueError: the corpus cannot be read, an SAE does not fit the model, or SAEs do not agree
            about BOS.
        JobCancelled: through the lease's progress.
    """
    times = SampleTimes.of(lease, store)
    text, *work = times.parts(("text", SAMPLE_TOKENS), ("read", SAMPLE_TOKENS))
    lease.progress.plan(text, *work)
    token_set = sample_tokens(lease, store, corpus, times)
    # Anew: the text is there, mostly at once, which tells nothing of the rest.
    lease.progress.plan(*work)
    with times.measured("read", token_set.n_tokens):
        states = build_statistics(lease, token_set, CONFIG)
    found = describe_states(lease, store, token_set, states, times)
    for fingerprint, described in zip(lease.sae_fingerprints, found, strict=True):
        remember_offline(store, fingerprint, described.offline)


def sample_tokens(lease: Lease, store: Store, corpus: Corpus, times: "SampleTimes") -> TokenSet:
    """The sample as all SAEs of the lease read it. Raises ValueError where they do not agree."""
    with lease.turn() as (model, saes):
        token_in_front(model, saes)  # all are looked at on the same tokens
        packing = default_packing(model, saes[0], max_tokens=SAMPLE_TOKENS)
    tokenizer, progress = lease.tokenizer, lease.progress
    with times.measured("text", SAMPLE_TOKENS, partly_stored=True):
        return load_token_set(corpus, tokenizer, packing, store=store, progress=progress)


def describe_states(
    lease: Lease,
    store: Store,
    token_set: TokenSet,
    states: "Sequence[LatentStatistics]",
    times: "SampleTimes",
) -> Iterator[DescribedState]:
    """Each SAE's statistics as what is said of its latents; a planned part of the work each."""
    progress = lease.progress
    with lease.turn() as (model, _):
        token_texts, W_U = vocabulary_texts(model), model.W_U.detach().clone()
    for number, state in enumerate(states):
        progress.next_part()
        progress.update(number, len(states), unit="SAEs", message="Describing latents")
        began = time.monotonic()
        index = finish(state)
        with lease.turn() as (model, saes):
            directions = all_directions(model, saes[number])
        tokens = top_token_ids(directions, W_U, N_TOKENS, store=store, progress=progress)
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
        times.remember("describe", len(texts), time.monotonic() - began)
        yield DescribedState(index, Descriptions.from_texts(texts, source=OFFLINE))


class SampleTimes:
    """How long the parts of reading a sample take, as the last ones on this machine did."""

    def __init__(self, store: Store, model: str, widths: Sequence[int]) -> None:
        """`model` is the model's fingerprint, `widths` the number of latents of each SAE."""
        self._store, self._model, self._widths = store, model, widths

    @classmethod
    def of(cls, lease: Lease, store: Store) -> "SampleTimes":
        """Those of the lease's SAEs."""
        with lease.turn() as (_, saes):
            widths = [int(sae.cfg.d_sae) for sae in saes]
        return cls(store, lease.model_fingerprint, widths)

    def parts(self, *tokens: tuple[str, int]) -> list[float]:
        """Seconds of each part with so many tokens, and then of describing each SAE."""
        units = [*tokens, *(("describe", width) for width in self._widths)]
        return [self.expected(part, n) for part, n in units]

    def expected(self, part: str, units: int) -> float:
        """Seconds for so many tokens, or latents of the part "describe"; "text" is cutting it into
        tokens, "firings" and "read" are the model's work."""
        known = usual_seconds(self._store, self._work(part), units=self._units(part, units))
        return _SECONDS[part] * self._units(part, units) * sharing() if known is None else known

    def remember(self, part: str, units: int, seconds: float) -> None:
        """Note how long a part took."""
        n = self._units(part, units)
        remember_time(self._store, self._work(part), seconds, units=n)

    @contextmanager
    def measured(self, part: str, units: int, *, partly_stored: bool = False) -> Iterator[None]:
        """A block that is a part, as `core.usual_time.measured`."""
        n = self._units(part, units)
        with measured(self._store, self._work(part), units=n, partly_stored=partly_stored):
            yield

    def _units(self, part: str, units: int) -> float:
        # Reading goes with the latents that are encoded at each token.
        return float(units) * (sum(self._widths) if part in ("firings", "read") else 1)

    def _work(self, part: str) -> str:
        return f"sample-{part}:{self._model}"
