"""From a prompt and SAEs to a matrix of gradients: what is asked, its key, and the computation."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
from sae_lens import SAE
from torch import Tensor

from core.catalog.entries import SaeEntry
from core.descriptions.sources import DescribedSae
from core.gradients.ends import KeepError
from core.gradients.jacobian import DEFAULT_MEMORY_BUDGET
from core.gradients.matrix import GradientMatrix, gradient_matrix
from core.gradients.prompt import checked_tokens, prompt_ids, prompt_texts, read_prompt
from core.gradients.reconstruction import ReconstructionReport, SaeFit, sae_fit
from core.gradients.route import Filling, Route, strongest
from core.gradients.sae_choices import described_saes
from core.gradients.to_latents import latent_route, token_route
from core.gradients.to_logits import logit_route
from core.lease import Lease
from core.models.hooks import Model
from core.saes import reconstruct, sae_inputs
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import token_text

_VERSION = 3


@dataclass(frozen=True)
class GradientRequest:
    """Which gradients are wanted."""

    tab: str
    """"latents", "tokens" or "logits"."""
    model: str
    """Name of the model."""
    prompt: str
    """Text it reads."""
    source: SaeEntry | None
    """SAE whose latents are sources; None for tokens."""
    target: SaeEntry | None
    """SAE whose latents are targets; None for logits."""
    k: int = 10
    """Tokens whose logits are explained."""
    freeze_attention: bool = False
    """Whether attention patterns are held."""
    freeze_layer_norm: bool = False
    """Whether scales of LayerNorms are held."""
    keep_error: KeepError = "first"
    """Where the earlier SAE's error stays."""
    most: int = 0
    """Strongest latents of each side; 0 for all."""

    @property
    def entries(self) -> list[SaeEntry]:
        """The SAEs needed, earlier first."""
        return [entry for entry in (self.source, self.target) if entry is not None]

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same share it."""
        plain = asdict(replace(self, source=None, target=None))
        saes = [[*entry.key, entry.version] for entry in self.entries]
        text = json.dumps([_VERSION, plain, saes])
        return "gradients:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class PromptGradients:
    """A matrix with what belongs to it, as it is stored; nothing here holds on to a model."""

    matrix: GradientMatrix
    """All gradients that were computed, of active latents."""
    tokens: tuple[str, ...]
    """Texts of the prompt's tokens, each in a cell of its own."""
    parts: tuple[str, ...]
    """What each adds to the prompt, as `RowTexts.parts`."""
    n_leading: int
    """How many of them stand in front of the prompt: 1 for a beginning-of-text token, or 0."""
    report: ReconstructionReport | None
    """Between latents: how far the reconstruction can be trusted."""
    fit: SaeFit
    """How well the (earlier) SAE reconstructs its site on this prompt."""
    n_sources: int
    """Sources there were before the strongest were chosen."""
    n_targets: int
    """Targets there were."""
    next_tokens: pd.DataFrame | None
    """Of logits, likeliest first: token, token_id, logit(_recon), rank(_recon) from 0."""


@dataclass(frozen=True, eq=False)
class GradientResult(PromptGradients):
    """The same with what was asked."""

    request: GradientRequest
    """What was asked."""
    saes: Mapping[str, DescribedSae]
    """What identifies the weights of each SAE, by its name in links."""
    digest: str
    """Of the key that it is stored under; what is computed from it has this in its own key."""


_CODEC = dataclass_codec(PromptGradients)


@dataclass(frozen=True)
class Opened:
    """A route in one turn, with what is said of it."""

    route: Route
    """The route, narrowed to what is wanted."""
    ids: Tensor
    """Tokens of the prompt, [1, pos]."""
    n_leading: int
    """As in the result."""
    report: ReconstructionReport | None
    """As in the result."""
    fit: SaeFit
    """As in the result."""
    n_sources: int
    """As in the result."""
    n_targets: int
    """As in the result."""
    next_tokens: pd.DataFrame | None
    """As in the result."""


def compute(lease: Lease, store: Store, request: GradientRequest) -> GradientResult:
    """The matrix of `request`, from the store where it has been computed before.

    `lease` is of the request's model and SAEs.

    Raises:
        ValueError: a prompt that cannot be used, or SAEs that do not go together.
        JobCancelled: through the lease's progress.
    """
    with lease.turn() as (model, saes):
        ids = prompt_ids(model, saes, request.prompt)[0].tolist()
        described = described_saes(lease, request.entries)
        # Weights, tokens and options rather than names.
        parameters = {
            "model": lease.model_fingerprint,
            "saes": [sae.fingerprint for sae in described.values()],
            "tokens": ids,
            "tab": request.tab,
            "k": request.k,
            "freeze": [request.freeze_attention, request.freeze_layer_norm],
            "keep_error": request.keep_error,
            "most": request.most,
        }
    key = Key("gradients", _VERSION, parameters)
    found = store.get_or_compute(
        key, lambda: _computed(lease, request), _CODEC, waiting=lease.progress.check
    )
    return GradientResult(**vars(found), request=request, saes=described, digest=key.digest)


def _computed(lease: Lease, request: GradientRequest) -> PromptGradients:
    filling: Filling | None = None
    while filling is None or not filling.is_full:
        with lease.turn() as (model, saes):
            opened = open_route(request, model, saes)
            if filling is None:
                filling = Filling(opened.route)
                result = _described(opened, model, filling.values)
            filling.go_on(
                opened.route,
                lease.progress,
                seconds=lease.turn_seconds(),
                memory_budget_bytes=DEFAULT_MEMORY_BUDGET,
            )
    return replace(result, matrix=replace(result.matrix, values=filling.values.numpy()))


def open_route(request: GradientRequest, model: Model, saes: list[SAE]) -> Opened:
    """The route of a request; the same in every turn."""
    prompt = read_prompt(model, saes, request.prompt)
    ids = checked_tokens(model, prompt.tokens)
    freezing: Any = {
        "freeze_attention": request.freeze_attention,
        "freeze_layer_norm": request.freeze_layer_norm,
    }
    report, next_tokens = None, None
    if request.tab == "latents":
        latents = latent_route(
            ids, saes[0], saes[1], model, **freezing, keep_error=request.keep_error
        )
        route, report, fit = latents.route, latents.report, latents.report.source
    elif request.tab == "tokens":
        route = token_route(ids, saes[0], model, **freezing).route
        clean = sae_inputs(model, saes[0], ids)
        is_plain = not hasattr(saes[0].cfg, "d_out")
        fit = _UNKNOWN
        if is_plain:
            fit = sae_fit(clean, reconstruct(saes[0], clean), n_leading=prompt.n_leading)
    else:
        vocabulary = int(model.cfg.d_vocab_out or model.cfg.d_vocab)
        logits = logit_route(
            ids,
            saes[0],
            model,
            min(request.k, vocabulary),
            **freezing,
            keep_error=request.keep_error,
        )
        route, fit = logits.route, logits.fit
        next_tokens = _next_tokens(model, logits.logits, logits.logits_recon, logits.token_ids)
    n_sources, n_targets = len(route.sources), len(route.targets)
    if request.most:
        most = request.most
        sources = strongest(route.source_indices, route.source_values, most=most)
        targets = strongest(route.target_indices, route.target_values, most=most)
        route = route.restrict(
            sources=None if request.tab == "tokens" else sources,
            targets=None if request.tab == "logits" else targets,
        )
    return Opened(route, ids, prompt.n_leading, report, fit, n_sources, n_targets, next_tokens)


_UNKNOWN = SaeFit(float("nan"), float("nan"))


def _described(opened: Opened, model: Model, values: Tensor) -> PromptGradients:
    texts = prompt_texts(model, opened.ids)
    vocabulary = None
    if opened.next_tokens is not None:
        vocabulary = dict(
            zip(opened.next_tokens["token_id"], opened.next_tokens["token"], strict=True)
        )
    return PromptGradients(
        matrix=gradient_matrix(opened.route, values, [list(texts.cells)], vocabulary=vocabulary),
        tokens=texts.cells,
        parts=texts.parts,
        n_leading=opened.n_leading,
        report=opened.report,
        fit=opened.fit,
        n_sources=opened.n_sources,
        n_targets=opened.n_targets,
        next_tokens=opened.next_tokens,
    )


def _next_tokens(
    model: Model, logits: Tensor, recon: Tensor, token_ids: list[int] | None
) -> pd.DataFrame:
    ids = token_ids or []
    return pd.DataFrame(
        {
            "token": [token_text(model.tokenizer, token) for token in ids],
            "token_id": ids,
            "logit": logits[ids].float().tolist(),
            "logit_recon": recon[ids].float().tolist(),
            "rank": [int((logits > logits[token]).sum()) for token in ids],
            "rank_recon": [int((recon > recon[token]).sum()) for token in ids],
        }
    )
