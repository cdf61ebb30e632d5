"""Can a model read latents at all? The test of `reading` on a sample of an SAE's latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sae_lens import SAE

from core.jobs.progress import PartProgress
from core.lease import Lease
from core.models import Model
from core.patch_scoping.choice import By, choose
from core.patch_scoping.peak_tokens import PeakTokens
from core.patch_scoping.question import prompt_of
from core.patch_scoping.reading import (
    PeakWord,
    ReadingScore,
    own_definitions,
    peak_words,
    reading_score,
)
from core.patch_scoping.run import ScopeRequest, run_sweep
from core.store import Store


@dataclass(frozen=True, eq=False)
class WordReadings:
    """How well some models read the latents of an SAE that fire on one word."""

    words: tuple[PeakWord, ...]
    """The latents that were drawn, with their words."""
    scores: dict[str, ReadingScore]
    """By model."""


def read_words(
    leases: Mapping[str, Lease],
    store: Store,
    request: ScopeRequest,
    peaks: PeakTokens,
    by: By,
    *,
    n: int = 60,
) -> WordReadings:
    """Sweep `n` latents that fire on one word, drawn at random, on each model, and score them.

    Each lease has one model, under its name, and the SAE. The request says what is asked; its
    latents do not matter.

    Raises ValueError where too few latents fire on one word.
    """
    words = peak_words(peaks.active, peaks.texts)
    drawn = np.random.default_rng(request.config.seed).permutation(len(words))[:n]
    chosen = tuple(words[i] for i in sorted(drawn))
    if len(chosen) < 2:
        raise ValueError(
            "Fewer than two latents of this SAE fire mostly on one word, so there is no definition "
            "to compare texts with; choose another SAE."
        )
    scores = {}
    for model, lease in leases.items():
        asked = replace(
            request,
            question=replace(request.question, speaker=model),
            latents=tuple(word.latent for word in chosen),
        )
        best = choose(run_sweep(lease, store, asked).table, by, per=("latent",))
        texts = dict(zip(best["latent"].astype(int), best["answer"], strict=True))
        definitions = _definitions(lease, asked, chosen)
        scores[model] = reading_score(chosen, definitions, texts, seed=request.config.seed)
    return WordReadings(chosen, scores)


def _definitions(lease: Lease, request: ScopeRequest, words: Sequence[PeakWord]) -> dict[int, str]:
    wanted = list(dict.fromkeys(word.token for word in words))
    found: dict[int, str] = {}
    part = PartProgress(lease.progress, silent=True)

    def ask(model: Model, saes: list[SAE], first: int, last: int) -> None:
        config = request.config
        found.update(
            own_definitions(
                *(model, prompt_of(model, request.question), wanted[first:last]),
                max_new_tokens=config.max_new_tokens,
                stop=config.stop,
                progress=part,
            )
        )

    message = "Asking for the words themselves"
    lease.in_turns(len(wanted), ask, unit="words", message=message)
    return found
