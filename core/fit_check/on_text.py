"""The fit check of the selected SAE: made once in the background, a lease a step, then kept."""

from dataclasses import dataclass, field
from typing import Any

from core.corpus.bos import bos_id
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.fit_check.check import FIT_TOKENS, Checking, FitCheck
from core.lease import Lease
from core.models.hooks import context_length
from core.saes import sae_card
from core.store import JSON, Key, Store

VERSION = 2
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


def run_fit_check(lease: Lease, store: Store, request: FitRequest) -> FitOnText:
    """The check of `request`, whose SAE the lease has, read from the store or made now.

    Raises ValueError for a text that cannot be read, an SAE that does not fit the model, and
    activations that are not finite.
    """
    with lease.turn() as (model, (sae,)):
        on_gpu = next(model.parameters()).device.type != "cpu"
        small = on_gpu or sum(part.numel() for part in model.parameters()) < _LARGE
        packing = default_packing(model, sae, max_tokens=FIT_TOKENS if small else _FEW_TOKENS)
        declared = request.declared_l0 or sae_card(sae).l0
        n_ctx = context_length(model)
        bos = bos_id(model.tokenizer, d_vocab=int(model.cfg.d_vocab))
    text = load_token_set(
        request.corpus, lease.tokenizer, packing, store=store, progress=lease.progress
    )
    options: dict[str, Any] = {
        "declared_l0": declared,
        "reconstructs": request.conversion not in WRITES_ELSEWHERE,
        "with_loss": small,
    }
    key = Key(
        "fit-check",
        VERSION,
        {
            "model": lease.model_fingerprint,
            "sae": lease.sae_fingerprints[0],
            "tokens": text.digest,
            **options,
        },
    )
    kept = store.get(key, JSON)
    if isinstance(kept, dict):
        return FitOnText(FitCheck.from_json(kept), request.corpus.name)
    checking = Checking(text, **options)
    steps = list(checking.steps(n_ctx, bos))
    for number, step in enumerate(steps):
        lease.progress.update(number, len(steps), message="Checking whether the SAE fits its place")
        with lease.turn() as (model, (sae,)):
            step(model, sae)
    result = checking.result()
    store.keep(key, result.to_json(), JSON)
    return FitOnText(FitCheck.from_json(result.to_json()), request.corpus.name)
