"""Sweeps under a lease, kept in the store latent by latent.

A latent that was swept before, alone or in a batch, by anybody, is read from the store. What the
model says of random directions is the same for all latents of a prompt, and is asked last.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.jobs.progress import PartProgress
from core.lease import Lease
from core.patch_scoping.arena import scale_tuning
from core.patch_scoping.controls import control_sweep
from core.patch_scoping.diagnostics import default_diagnostic_layer
from core.patch_scoping.null_distribution import NullComparison, compare_with_null
from core.patch_scoping.prompt import ScopePrompt
from core.patch_scoping.question import Question, prompt_of
from core.patch_scoping.sweep import SweepConfig, random_sweep, sweep, sweep_directions
from core.saes.writes import WRITES_VERSION
from core.store import FRAME, Key, Store
from core.usual_time import measured, usual_seconds

if TYPE_CHECKING:
    from jaxtyping import Float
    from sae_lens import SAE
    from torch import Tensor

    from core.models.hooks import Model

_VERSION, _NULL_VERSION = 1, 2


@dataclass(frozen=True)
class ScopeRequest:
    """Which sweep is wanted."""

    question: Question
    """Of whom, and what."""
    sae: tuple[str, str]
    """Release and id of the SAE."""
    sae_version: str
    """Changes when its files do."""
    latents: tuple[int, ...]
    """Latents to explain."""
    config: SweepConfig
    """Layers, scales, sampling."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same sweep share it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return "patch-scoping:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class ScopeResult:
    """What a sweep found."""

    table: pd.DataFrame
    """That of `Sweep`: a row for each latent, layer, scale and sample."""
    sae_fingerprint: str
    """Of the SAE's weights: descriptions are saved under it."""
    d_sae: int
    """Latents of the SAE."""


@dataclass(frozen=True)
class _Inputs:
    """What a request amounts to on a loaded model and SAE."""

    prompt: ScopePrompt
    """The question as the model's tokens."""
    d_sae: int
    """Latents of the SAE."""
    parameters: dict[str, Any]
    """What results are keyed by."""

    def key(self, kind: str, **others: Any) -> Key:
        """Key of a result; `others` add to the parameters or replace some."""
        return Key(kind, _VERSION, self.parameters | others)


def run_sweep(lease: Lease, store: Store, request: ScopeRequest) -> ScopeResult:
    """The sweep of all latents of the request, without the comparison with random directions.

    The lease has the model that is asked, and the SAE.

    Raises:
        ValueError: a prompt, layer, scale or latent that cannot be used.
    """
    # The random directions do not change the texts: one entry of the store for both.
    config = replace(request.config, n_controls=0)
    inputs = _inputs(lease, replace(request, config=config))
    keys = {
        latent: inputs.key("patch-scoping", latents=[latent], writes=WRITES_VERSION)
        for latent in request.latents
    }
    found = {latent: store.get(key, FRAME) for latent, key in keys.items()}
    missing = [latent for latent, table in found.items() if table is None]
    prompts = {request.question.template: inputs.prompt}
    part = PartProgress(lease.progress, silent=True)

    def sweep_some(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        some = missing[first:last]
        table = sweep(model, saes[0], some, prompts, config, progress=part).table
        for latent in some:
            found[latent] = table[table["latent"] == latent].reset_index(drop=True)
            store.keep(keys[latent], found[latent], FRAME)

    work, n_tokens = f"scope:{request.question.speaker}", _n_tokens(request, len(missing))
    with measured(store, work, units=n_tokens):
        lease.in_turns(
            len(missing),
            sweep_some,
            unit="latents",
            message="Letting the model explain",
            before=len(found) - len(missing),
            total=len(found),
        )
    table = pd.concat([found[latent] for latent in request.latents], ignore_index=True)
    return ScopeResult(table, lease.sae_fingerprints[0], inputs.d_sae)


def expected_seconds(store: Store, request: ScopeRequest) -> float | None:
    """How long the sweep of all its latents takes, as the last ones of the model here did."""
    n_tokens = _n_tokens(request, len(request.latents))
    return usual_seconds(store, f"scope:{request.question.speaker}", units=n_tokens)


def _n_tokens(request: ScopeRequest, n_latents: int) -> float:
    it = request.config
    texts = len(it.layers) * len(it.scales or it.multiples) * it.sampling.n_samples
    return float(n_latents * texts * it.max_new_tokens)


def run_null_comparison(
    lease: Lease, store: Store, request: ScopeRequest
) -> dict[int, NullComparison]:
    """Each latent against random directions; sweeps what is missing. Raises as `run_sweep`."""
    table = run_sweep(lease, store, request).table
    compared = compare_with_null(table, null_table(lease, store, request))
    return {int(latent): one for latent, one in compared.items()}


def null_table(lease: Lease, store: Store, request: ScopeRequest) -> pd.DataFrame:
    """What the model says of random directions: a sweep's table, of numbers from 0."""
    config = request.config
    inputs = _inputs(lease, replace(request, latents=()))
    prompts = {request.question.template: inputs.prompt}
    part = PartProgress(lease.progress, silent=True)

    def explain(model: "Model", first: int, last: int) -> pd.DataFrame:
        return random_sweep(model, prompts, config, span=(first, last), progress=part)

    return _table_in_turns(
        lease,
        store,
        inputs.key("patch-scoping-random", sae="", version=_NULL_VERSION),
        config.n_controls,
        explain,
        unit="directions",
        message="Comparing with random directions",
    )


def run_directions(
    lease: Lease,
    store: Store,
    request: ScopeRequest,
    names: Sequence[int],
    directions: "Float[Tensor, 'n d_model']",
    *,
    title: str,
) -> pd.DataFrame:
    """The request's sweep of unit directions that are not latents; `title` says what they are."""
    inputs = _inputs(lease, request)
    prompts = {request.question.template: inputs.prompt}
    part = PartProgress(lease.progress, silent=True)
    digest = hashlib.sha256(directions.cpu().numpy().tobytes()).hexdigest()

    def explain(model: "Model", first: int, last: int) -> pd.DataFrame:
        some = directions[first:last]
        config = request.config
        return sweep_directions(
            model, names[first:last], some, prompts, config, progress=part
        ).table

    return _table_in_turns(
        lease,
        store,
        inputs.key("patch-scoping-control", latents=list(names), sae="", directions=digest),
        len(names),
        explain,
        unit="units",
        message=f"Letting the model explain {title}",
    )


def run_controls(
    lease: Lease,
    store: Store,
    request: ScopeRequest,
    others: tuple[int, ...],
    *,
    n_random: int = 2,
) -> pd.DataFrame:
    """Texts of random directions, other latents and the untouched prompt; see `control_sweep`."""
    inputs = _inputs(lease, request)
    key = inputs.key(
        "patch-scoping-controls", others=list(others), n_random=n_random, writes=WRITES_VERSION
    )
    table = store.get(key, FRAME)
    if table is None:
        lease.progress.update(0, None, message="Letting the model explain the controls")
        with lease.turn() as (model, (sae,)):
            table = control_sweep(
                model,
                sae,
                {request.question.template: inputs.prompt},
                request.config,
                n_random=n_random,
                others=others,
                seed=request.config.sampling.seed + 1,
                progress=PartProgress(lease.progress, silent=True),
            )
        store.keep(key, table, FRAME)
    return table


def run_scale_tuning(
    lease: Lease, store: Store, request: ScopeRequest, layer: int, norms: tuple[float, ...]
) -> pd.DataFrame:
    """`scale_tuning` with derivatives for the request's first latent, at these norms."""
    inputs = _inputs(lease, request)
    prompt = inputs.prompt
    key = inputs.key("patch-scoping-tuning", layer=layer, norms=list(norms), writes=WRITES_VERSION)
    table = store.get(key, FRAME)
    if table is not None:
        return table
    parts: list[pd.DataFrame] = []

    def measure(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        reached = default_diagnostic_layer(model, layer)
        latent, some = request.latents[0], norms[first:last]
        parts.append(
            scale_tuning(
                *(model, saes[0], prompt.text, latent, layer, reached, some),
                placeholder=prompt.placeholder,
            )
        )

    lease.in_turns(len(norms), measure, unit="scales", message="Differentiating by scale")
    table = pd.concat(parts, ignore_index=True)
    store.keep(key, table, FRAME)
    return table


def _inputs(lease: Lease, request: ScopeRequest) -> _Inputs:
    with lease.turn() as (model, (sae,)):
        prompt, d_sae = prompt_of(model, request.question), int(sae.cfg.d_sae)
    parameters = {
        "latents": list(request.latents),
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "prompt": list(prompt.tokens),
        "places": list(prompt.positions),
        "config": asdict(request.config),
    }
    # asdict keeps tuples, JSON has lists.
    return _Inputs(prompt, d_sae, json.loads(json.dumps(parameters)))


def _table_in_turns(
    lease: Lease,
    store: Store,
    key: Key,
    n: int,
    explain: "Callable[[Model, int, int], pd.DataFrame]",
    *,
    unit: str,
    message: str,
) -> pd.DataFrame:
    """The table of `key`, or the parts that `explain(model, first, last)` gives, joined."""
    table = store.get(key, FRAME)
    if table is not None:
        return table
    parts: list[pd.DataFrame] = []

    def step(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        parts.append(explain(model, first, last))

    lease.in_turns(n, step, unit=unit, message=message)
    table = pd.concat(parts, ignore_index=True)
    store.keep(key, table, FRAME)
    return table
