"""The fit check of the selected SAE: made once in the background, a lease a step, then kept."""

import copy
from dataclasses import dataclass, field
from typing import Any

from core.activations import fingerprint_of_sae
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.engine import Engine
from core.fit_check import FIT_TOKENS, Checking, FitCheck
from core.jobs.progress import Progress
from core.saes import sae_card
from core.store import JSON, Key, Store
from core.view.patch_scoping.asking import fingerprint_once

VERSION = 1
WRITES_ELSEWHERE = ("mntss_clt_layer_transcoder",)
"""Loaders of SAEs that are one layer of several that write a site together."""
_LARGE = 300_000_000
"""Parameters from which a model without a GPU is run on less text."""
_FEW_TOKENS = 512


@dataclass(frozen=True)
class FitRequest:
    """Which SAE is checked on which text."""

    model: str
    """Name of the model."""
    sae: tuple[str, str]
    """`(release, sae_id)`."""
    version: str
    """`SaeEntry.version`."""
    corpus: Corpus = field(compare=False)
    """The text."""
    declared_l0: float | None = None
    """Active latents a token as published; None to ask the SAE itself."""
    conversion: str | None = None
    """`SaeEntry.conversion`."""

    @property
    def key(self) -> str:
        """Key of the job: all who look at the SAE share it."""
        return ":".join(["fit", self.model, *self.sae, self.version, self.corpus.digest])


@dataclass(frozen=True)
class FitOnText:
    """A check, and what it was made on."""

    check: FitCheck
    """What was found."""
    text: str
    """Name of the text."""


def fit(engine: Engine, store: Store, request: FitRequest, progress: Progress) -> FitOnText:
    """The check of `request`, read from the store or made now.

    Raises ValueError for a text that cannot be read, an SAE that does not fit the model, and
    activations that are not finite.
    """
    with engine.use(request.model, [request.sae]) as (model, (sae,)):
        tokenizer = copy.deepcopy(model.tokenizer)  # tokenizers are not for several threads
        n_parameters = sum(it.numel() for it in model.parameters())
        small = engine.device != "cpu" or n_parameters < _LARGE
        packing = default_packing(model, sae, max_tokens=FIT_TOKENS if small else _FEW_TOKENS)
        prints = {"model": fingerprint_once(model), "sae": fingerprint_of_sae(sae)}
        declared = request.declared_l0 or sae_card(sae).l0
        n_ctx = int(model.cfg.n_ctx)
    tokens = load_token_set(request.corpus, tokenizer, packing, store=store, progress=progress)
    options: dict[str, Any] = {
        "declared_l0": declared,
        "reconstructs": request.conversion not in WRITES_ELSEWHERE,
        "with_loss": small,
    }
    key = Key("fit-check", VERSION, prints | {"tokens": tokens.digest} | options)
    kept = store.get(key, JSON)
    if isinstance(kept, dict):
        return FitOnText(FitCheck.from_json(kept), request.corpus.name)
    checking = Checking(tokens, **options)
    steps = list(checking.steps(n_ctx, getattr(tokenizer, "bos_token_id", None)))
    for number, step in enumerate(steps):
        progress.update(number, len(steps), message="Checking whether the SAE fits its place")
        with engine.use(request.model, [request.sae]) as (model, (sae,)):
            step(model, sae)
    result = checking.result()
    store.put(key, result.to_json(), JSON)
    return FitOnText(FitCheck.from_json(result.to_json()), request.corpus.name)
