"""What the model itself says of a latent, and whether it would say as much of anything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.dossier.shared import Shared
from core.lease import Lease
from core.patch_scoping.null_distribution import NullComparison
from core.patch_scoping.peak_tokens import PeakTokens
from core.patch_scoping.question import Question, prompt_of, template_of
from core.patch_scoping.reading import PeakWord, own_definitions, peak_words, unigram_f1
from core.patch_scoping.run import ScopeRequest, run_null_comparison, run_sweep
from core.patch_scoping.sweep import SweepConfig
from core.patch_scoping.tables import BestText, best_text
from core.patch_scoping.transfer import measure_quality, transfer_sentence

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

_N_WORDS = 40
"""Other latents' words that a text is held against."""


@dataclass(frozen=True)
class Spoken:
    """The model's own text."""

    speaker: str
    """Model that was asked."""
    best: BestText
    """Its text, where and at which scale."""
    against_null: NullComparison
    """The latent against random directions."""
    transfer: str
    """Whether the SAE carries over to that model, in a sentence; empty for its own model."""
    carries_over: bool
    """Whether it does, at least in part."""
    word: str
    """The one word that the latent fires on; empty where it fires on no one word."""
    definition: str
    """What the model says that this word means; empty without one."""
    reading: float
    """Word overlap (F1) of its text with that; NaN without a word."""
    others: Mapping[str, float]
    """The same with its definitions of other latents' words, by word: what chance gives."""
    nearest: tuple[str, ...]
    """Those of these words that are the nearest latents'."""

    @property
    def p(self) -> float:
        """Share of words, the latent's own counted in, whose definition the text is as much like;
        NaN without a word."""
        if not math.isfinite(self.reading) or not self.others:
            return math.nan
        return (1 + sum(it >= self.reading for it in self.others.values())) / (len(self.others) + 1)

    @property
    def best_other(self) -> str:
        """Of the other words, the one whose definition the text is most like; empty for none."""
        found = max(self.others, key=self.others.__getitem__, default="")
        return found if found and self.others[found] > 0 else ""


def scope_request(shared: Shared, latent: int) -> ScopeRequest:
    """The sweep that the page of patch scoping makes of the latent."""
    request = shared.request
    question = Question(request.speaker)
    config = SweepConfig(
        layers=request.speaker_layers, stop=template_of(question).stop, seed=request.seed
    )
    return ScopeRequest(question, request.sae_name, request.sae[2], (latent,), config)


def spoken(shared: Shared, peaks: PeakTokens, latent: int, nearest: Sequence[int]) -> Spoken:
    """What the model says; `nearest` are the latents nearest to this one.

    Raises ValueError as `run_sweep`.
    """
    request = shared.request
    lease = shared.lease_of(request.speaker, [request.sae_name])
    asked = scope_request(shared, latent)
    table = run_sweep(lease, shared.store, asked).table
    compared = run_null_comparison(lease, shared.store, asked)[latent]
    transfer, carries = "", True
    if request.speaker != request.model:
        base = measure_quality(shared.lease, shared.store, request.corpus, losses=False)
        tuned = measure_quality(lease, shared.store, request.corpus, losses=False)
        transfer = transfer_sentence(base, tuned)
        carries = base.explained_variance - tuned.explained_variance <= 0.2
    best = best_text(table, request.speaker_by)  # type: ignore[arg-type]
    words = {it.latent: it for it in shared.once("words", lambda: _words(peaks))}
    own = words.get(latent)
    near = [words[it] for it in nearest if it in words]
    others = [*near, *shared.once("other words", lambda: _drawn(words, request.seed))]
    wanted = {it.token: it.word for it in others if own is None or it.word != own.word}
    try:
        told = _defined(shared, lease, asked, [*([own.token] if own else []), *wanted])
    except ValueError:  # a placeholder of several tokens: no word can take its place
        told, own, wanted = {}, None, {}
    return Spoken(
        request.speaker,
        best,
        compared,
        transfer,
        carries,
        word="" if own is None else own.word,
        definition="" if own is None else told[own.token],
        reading=math.nan if own is None else unigram_f1(best.text, told[own.token]),
        others={word: unigram_f1(best.text, told[token]) for token, word in wanted.items()},
        nearest=tuple(dict.fromkeys(it.word for it in near if it.token in wanted)),
    )


def _words(peaks: PeakTokens) -> list[PeakWord]:
    return peak_words(peaks.active, peaks.texts)


def _drawn(words: Mapping[int, PeakWord], seed: int) -> list[PeakWord]:
    latents = list(words)
    order = np.random.default_rng([seed, 5]).permutation(len(latents))[:_N_WORDS]
    return [words[latents[int(i)]] for i in order]


def _defined(
    shared: Shared, lease: Lease, asked: ScopeRequest, tokens: Sequence[int]
) -> dict[int, str]:
    """What the model says that words mean; asked once for each word."""
    known: dict[int, str] = shared.once("definitions", dict)
    missing = [token for token in dict.fromkeys(tokens) if token not in known]

    def ask(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        known.update(
            own_definitions(
                *(model, prompt_of(model, asked.question), missing[first:last]),
                max_new_tokens=asked.config.max_new_tokens,
                stop=asked.config.stop,
            )
        )

    lease.in_turns(
        len(missing), ask, unit="words", message="Asking for the words themselves", step=8
    )
    return known
