"""How far a text is to be trusted: does the SAE fit the model, and can the model read latents?"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from core.activations import fingerprint_of_sae
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.choice import By, choose
from core.patch_scoping.reading import (
    PeakWord,
    ReadingScore,
    own_definitions,
    peak_words,
    reading_score,
)
from core.patch_scoping.transfer import Quality, QualitySums, quality, quality_sums, rows_of
from core.store import JSON, Key, Store
from core.view.loading import HubErrorsInWords
from core.view.patch_scoping.asking import fingerprint_once
from core.view.patch_scoping.peaks import Peaks
from core.view.patch_scoping.scoping import run
from core.view.patch_scoping.workbench import ScopeRequest, Workbench, in_leases

TRANSFER_TOKENS = 20_000
"""Tokens on which an SAE's fit is measured."""
_VERSION = 1


def sae_quality(
    engine: Engine,
    store: Store,
    models: Sequence[str],
    sae: tuple[str, str],
    corpus: Corpus,
    progress: Progress,
) -> dict[str, Quality]:
    """How well the SAE reconstructs each model's activations on the same sample of text."""
    return {model: _quality(engine, store, model, sae, corpus, progress) for model in models}


def _quality(
    engine: Engine,
    store: Store,
    model: str,
    sae: tuple[str, str],
    corpus: Corpus,
    progress: Progress,
) -> Quality:
    with HubErrorsInWords(), engine.use(model, [sae]) as (loaded, (found,)):
        tokenizer = copy.deepcopy(loaded.tokenizer)  # tokenizers are not for several threads
        packing = replace(default_packing(loaded, found), max_tokens=TRANSFER_TOKENS)
        prints = {"model": fingerprint_once(loaded), "sae": fingerprint_of_sae(found)}
    tokens = load_token_set(corpus, tokenizer, packing, store=store, progress=progress)
    key = Key("sae-quality", _VERSION, prints | {"tokens": tokens.digest})
    kept: dict[str, Any] | None = store.get(key, JSON)
    if kept is not None:
        figures: dict[str, Any] = {n: float("nan") if it is None else it for n, it in kept.items()}
        return Quality(**figures)
    total = QualitySums()

    def measure(first: int, last: int) -> None:
        nonlocal total
        with engine.use(model, [sae]) as (loaded, (found,)):
            device = next(loaded.parameters()).device
            rows = rows_of(tokens.tokens, tokens.mask, slice(first, last), device)
            total = total + quality_sums(loaded, found, *rows)

    def report(done: int) -> None:
        progress.update(done, tokens.n_rows, unit="rows", message=f"Reading a text with {model}")

    in_leases(tokens.n_rows, measure, report)
    measured = quality(total)
    store.put(key, _finite(asdict(measured)), JSON)
    return measured


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: it if np.isfinite(it) else None for name, it in values.items()}


@dataclass(frozen=True, eq=False)
class Readings:
    """How well some models read the latents of an SAE that fire on one word."""

    words: tuple[PeakWord, ...]
    """The latents that were drawn, with their words."""
    scores: dict[str, ReadingScore]
    """By model."""


def read_words(
    engine: Engine,
    store: Store,
    request: ScopeRequest,
    models: Sequence[str],
    peaks: Peaks,
    by: By,
    progress: Progress,
    *,
    n: int = 60,
) -> Readings:
    """Sweep `n` latents that fire on one word, drawn at random, on each model, and score them.

    The request says what is asked; its latents do not matter.

    Raises ValueError where too few latents fire on one word.
    """
    words = peak_words(peaks.texts, peaks.active)
    drawn = np.random.default_rng(request.config.seed).permutation(len(words))[:n]
    chosen = tuple(words[i] for i in sorted(drawn))
    if len(chosen) < 2:
        raise ValueError(
            "Fewer than two latents of this SAE fire mostly on one word, so there is no definition "
            "to compare texts with; choose another SAE."
        )
    scores = {}
    for model in models:
        asked = replace(
            request,
            question=replace(request.question, speaker=model),
            latents=tuple(it.latent for it in chosen),
        )
        table = run(engine, store, asked, progress).table
        best = choose(table, by, per=("latent",))
        texts = dict(zip(best["latent"].astype(int), best["answer"], strict=True))
        definitions = _definitions(engine, store, asked, chosen, progress)
        scores[model] = reading_score(chosen, definitions, texts, seed=request.config.seed)
    return Readings(chosen, scores)


def _definitions(
    engine: Engine,
    store: Store,
    request: ScopeRequest,
    words: Sequence[PeakWord],
    progress: Progress,
) -> dict[int, str]:
    work = Workbench(engine, store, replace(request, latents=()), progress)
    wanted = list(dict.fromkeys(it.token for it in words))
    found: dict[int, str] = {}

    def ask(first: int, last: int) -> None:
        config = request.config
        with work.lease() as (model, _, prompt):
            found.update(
                own_definitions(
                    model,
                    prompt,
                    wanted[first:last],
                    max_new_tokens=config.max_new_tokens,
                    stop=config.stop,
                    progress=work.part,
                )
            )

    def report(done: int) -> None:
        progress.update(done, len(wanted), unit="words", message="Asking for the words themselves")

    in_leases(len(wanted), ask, report)
    return found
