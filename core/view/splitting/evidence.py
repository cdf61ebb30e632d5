"""What the latents of several SAEs do on a sample of text: how often, where, and together.

One run of the model for all SAEs, in leases of a few thousand tokens, so that other users get their
turn in between. Kept in the store; the same sample gives frequencies, the offline descriptions and
the firings that the splitting tree compares.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import vstack

from core.activations import (
    Firings,
    IndexConfig,
    build_states,
    collect_firings,
    fingerprint_of_model,
    fingerprint_of_sae,
    finish,
    merge,
)
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.descriptions.offline import DESCRIBER_VERSION, describe_latents
from core.descriptions.table import OFFLINE, Descriptions
from core.engine import Engine
from core.jobs.progress import Progress
from core.splitting.tokens import all_directions, top_token_ids
from core.store import ARRAYS, JSON, Key, Store
from core.tokens import vocabulary_texts, whole_characters
from core.view.splitting.members import Member

N_TOKENS = 10
"""Boosted and suppressed tokens of each latent, here and on the map: stored once for both."""
SAMPLE_TOKENS = 200_000
"""Tokens read for frequencies and descriptions."""
FIRING_TOKENS = 50_000
"""Of these, tokens whose firings are kept one by one."""
_LEASE_ROWS_TOKENS = 16_384
_BEFORE = _AFTER = 8
_CONFIG = IndexConfig(n_top=12, n_quantiles=1, per_quantile=1, buffer=0, n_partners=0)
_VERSION = 1


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


class PartProgress(Progress):
    """Progress of one part of a longer work, told to the whole's."""

    def __init__(self, whole: Progress, *, done: int, total: int, message: str) -> None:
        """`done` of `total` are finished before this part begins."""
        super().__init__()
        self._whole, self._before, self._total, self._what = whole, done, total, message

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """As `Progress.update`, counted on from the parts before."""
        self._whole.update(self._before + done, self._total, unit=unit, message=self._what)

    def check(self) -> None:
        """As `Progress.check`."""
        self._whole.check()


def measure(
    engine: Engine,
    store: Store,
    model: str,
    members: Sequence[Member],
    corpus: Corpus,
    progress: Progress,
) -> dict[str, Evidence]:
    """Evidence for each member, by label; computed for those for which the store has none.

    Raises:
        ValueError: the corpus cannot be read, or an SAE does not fit the model.
    """
    names = [member.entry.key for member in members]
    with engine.use(model, names) as (loaded, saes):
        tokenizer = copy.deepcopy(loaded.tokenizer)  # tokenizers are not for several threads
        packing = replace(default_packing(loaded, saes[0]), max_tokens=SAMPLE_TOKENS)
        model_print = fingerprint_of_model(loaded)
        prints = [fingerprint_of_sae(sae) for sae in saes]
    token_set = load_token_set(corpus, tokenizer, packing, store=store, progress=progress)
    keys = [
        Key(
            "splitting-evidence",
            _VERSION,
            {
                "model": model_print,
                "sae": sae_print,
                "tokens": token_set.digest,
                "describer": DESCRIBER_VERSION,
            },
        )
        for sae_print in prints
    ]
    kept = [_from_store(store, key, corpus) for key in keys]
    missing = [index for index, found in enumerate(kept) if found is None]
    if missing:
        chosen = [names[index] for index in missing]
        computed = _compute(engine, store, model, chosen, token_set, corpus, tokenizer, progress)
        for index, found in zip(missing, computed, strict=True):
            _to_store(store, keys[index], found)
            kept[index] = found
    return {m.label: found for m, found in zip(members, kept, strict=True) if found is not None}


def _compute(
    engine: Engine,
    store: Store,
    model: str,
    names: Sequence[tuple[str, str]],
    token_set: TokenSet,
    corpus: Corpus,
    tokenizer: Any,
    progress: Progress,
) -> list[Evidence]:
    firings = _firings(engine, model, names, token_set, progress)
    spans = _spans(token_set, _LEASE_ROWS_TOKENS)
    states = None
    for span in spans:
        done = int(token_set.mask[: span[0]].sum())
        part = PartProgress(
            progress, done=done, total=token_set.n_tokens, message="Reading the sample of text"
        )
        with engine.use(model, names) as (loaded, saes):
            new = build_states(loaded, saes, token_set, _CONFIG, rows=span, progress=part)
        states = new if states is None else [merge(a, b) for a, b in zip(states, new, strict=True)]
    with engine.use(model) as (loaded, _):
        token_texts, W_U = vocabulary_texts(loaded), loaded.W_U.detach().clone()
    found = []
    for number, state in enumerate(states or ()):
        progress.update(number, len(names), unit="SAEs", message="Describing latents")
        index = finish(state)
        with engine.use(model, [names[number]]) as (loaded, (sae,)):
            directions = all_directions(loaded, sae)
        windows, vocabulary = whole_characters(
            index.windows(token_set, _BEFORE, _AFTER), token_texts
        )
        texts = describe_latents(
            windows,
            index.top_values,
            vocabulary,
            n_before=_BEFORE,
            boosted=top_token_ids(
                directions, W_U, N_TOKENS, store=store, progress=progress
            ).boosted,
            special_ids=tokenizer.all_special_ids,
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


def _firings(
    engine: Engine,
    model: str,
    names: Sequence[tuple[str, str]],
    token_set: TokenSet,
    progress: Progress,
) -> list[Firings]:
    """`collect_firings` on the first rows, a lease at a time."""
    last = int(np.searchsorted(token_set.mask.sum(1).cumsum(), FIRING_TOKENS)) + 1
    sample = token_set.rows(0, min(last, token_set.n_rows))
    parts: list[list[Firings]] = []
    for first, stop in _spans(sample, _LEASE_ROWS_TOKENS):
        done = int(sample.mask[:first].sum())
        part = PartProgress(
            progress, done=done, total=sample.n_tokens, message="Finding what fires together"
        )
        rows = sample.rows(first, stop)
        with engine.use(model, names) as (loaded, saes):
            found = collect_firings(
                loaded, saes, rows, max_tokens=max(1, rows.n_tokens), progress=part
            )
        shift = first * sample.context
        parts.append([replace(it, places=it.places + np.int32(shift)) for it in found])
    return [
        Firings(
            latents=vstack([part[number].latents for part in parts], format="csr"),
            places=np.concatenate([part[number].places for part in parts]),
            tokens=np.concatenate([part[number].tokens for part in parts]),
            context=sample.context,
        )
        for number in range(len(names))
    ]


def _spans(token_set: TokenSet, tokens: int) -> list[tuple[int, int]]:
    """Rows [first, last) of about so many tokens each; those without a position are passed over."""
    step = max(1, tokens // token_set.context)
    starts = range(0, token_set.n_rows, step)
    spans = [(start, min(start + step, token_set.n_rows)) for start in starts]
    return [span for span in spans if token_set.mask[span[0] : span[1]].any()]


def _to_store(store: Store, key: Key, found: Evidence) -> None:
    arrays = {f"firings.{name}": array for name, array in found.firings.to_arrays().items()}
    arrays |= {"counts": found.counts, "n_tokens": np.array(found.n_tokens)}
    store.put(key, arrays, ARRAYS)
    store.put(key, list(found.offline.texts), JSON)


def _from_store(store: Store, key: Key, corpus: Corpus) -> Evidence | None:
    arrays: dict[str, Any] | None = store.get(key, ARRAYS)
    texts: Any = store.get(key, JSON)
    if arrays is None or texts is None:
        return None
    prefix = "firings."
    firings = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    return Evidence(
        counts=arrays["counts"],
        n_tokens=int(arrays["n_tokens"]),
        firings=Firings.from_arrays(firings),
        offline=Descriptions.from_texts(texts, source=OFFLINE),
        corpus=corpus.name,
    )


def evidence_key(model: str, members: Sequence[Member], corpus: Corpus) -> str:
    """Key of the job that measures."""
    saes = [[*member.entry.key, member.entry.version] for member in members]
    return "evidence:" + json.dumps([model, saes, corpus.digest])
