"""What the latents of an SAE fire on and write: the tokens that a faithful text should name."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from core.activations import (
    IndexConfig,
    build_states,
    fingerprint_of_sae,
    finish,
    merge,
)
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.engine import Engine
from core.jobs.progress import Progress
from core.logit_lens import top_tokens
from core.patch_scoping.faithfulness import LatentTokens
from core.splitting.tokens import all_directions
from core.store import ARRAYS, Key, Store
from core.tokens import TokenTexts, vocabulary_texts
from core.view.loading import HubErrorsInWords
from core.view.patch_scoping.asking import fingerprint_once
from core.view.patch_scoping.workbench import PartProgress, in_leases

SAMPLE_TOKENS = 200_000
"""Tokens of text that are read."""
N_TOP = 15
"""Strongest positions of each latent."""
N_BOOSTED = 10
"""Tokens that its direction raises most."""
_VERSION = 1
_CONFIG = IndexConfig(n_top=N_TOP, n_quantiles=1, per_quantile=1, buffer=0, n_partners=0)
_LEASE_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class Peaks:
    """Tokens of all latents."""

    active: Int[np.ndarray, "d_sae n_top"]
    """Tokens at each latent's strongest positions, best first; -1 for none."""
    boosted: Int[np.ndarray, "d_sae n_boosted"]
    """Tokens that it raises most."""
    texts: TokenTexts
    """Each token as text."""
    corpus: str
    """Name of the text that was read."""

    def of(self, latent: int) -> LatentTokens:
        """The tokens of one latent, as text."""
        ids = self.active[latent]
        different, counts = np.unique(ids[ids >= 0], return_counts=True)
        n = max(1, int(counts.sum()))
        order = np.argsort(-counts, kind="stable")
        active = {self.texts.text(int(different[i])): int(counts[i]) / n for i in order}
        return LatentTokens(active, tuple(self.texts.text(int(it)) for it in self.boosted[latent]))

    @property
    def alive(self) -> Int[np.ndarray, " n"]:
        """Latents that fired."""
        return np.flatnonzero(self.active[:, 0] >= 0)


def find_peaks(
    engine: Engine,
    store: Store,
    model: str,
    sae: tuple[str, str],
    corpus: Corpus,
    progress: Progress,
) -> Peaks:
    """The peaks of all latents on a sample of the corpus, from the store where they are known.

    Raises ValueError for a corpus that cannot be read, or an SAE that does not fit.
    """
    with HubErrorsInWords(), engine.use(model, [sae]) as (loaded, (found,)):
        # Tokenizers are not for several threads.
        tokenizer: Any = copy.deepcopy(loaded.tokenizer)
        packing = replace(default_packing(loaded, found), max_tokens=SAMPLE_TOKENS)
        prints = {"model": fingerprint_once(loaded), "sae": fingerprint_of_sae(found)}
        texts = vocabulary_texts(loaded)
    tokens = load_token_set(corpus, tokenizer, packing, store=store, progress=progress)
    key = Key("patch-scoping-peaks", _VERSION, prints | {"tokens": tokens.digest, "n_top": N_TOP})
    arrays = store.get(key, ARRAYS)
    if arrays is None:
        arrays = _compute(engine, model, sae, tokens, progress)
        store.put(key, arrays, ARRAYS)
    return Peaks(arrays["active"], arrays["boosted"], texts, corpus.name)


def _compute(
    engine: Engine, model: str, sae: tuple[str, str], tokens: TokenSet, progress: Progress
) -> dict[str, np.ndarray]:
    state = None
    step = max(1, _LEASE_TOKENS // tokens.context)
    n_parts = -(-tokens.n_rows // step)

    def read(first: int, last: int) -> None:
        nonlocal state
        rows = (first * step, min(last * step, tokens.n_rows))
        if not tokens.mask[rows[0] : rows[1]].any():
            return
        with engine.use(model, [sae]) as (loaded, (found,)):
            [new] = build_states(
                loaded, [found], tokens, _CONFIG, rows=rows, progress=PartProgress(progress)
            )
        state = new if state is None else merge(state, new)

    def report(done: int) -> None:
        progress.update(done, n_parts, unit="parts", message="Reading a sample of text")

    in_leases(n_parts, read, report)
    if state is None:
        raise ValueError("The sample of text holds no tokens; choose another text.")
    index = finish(state)
    places = index.top_places
    active = np.where(places >= 0, tokens.tokens.ravel()[places], -1)
    with engine.use(model, [sae]) as (loaded, (found,)), torch.no_grad():
        directions = all_directions(loaded, found)
        boosted, _ = top_tokens(directions, loaded.W_U, min(N_BOOSTED, loaded.W_U.shape[1]))
    return {"active": active.astype(np.int32), "boosted": boosted.cpu().numpy().astype(np.int32)}
