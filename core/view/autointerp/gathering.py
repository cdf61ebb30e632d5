"""Examples of the latents of a run and of its controls: one pass over the text, in short leases.

Windows are kept in the store, so that another explainer, or a link opened later, needs no pass.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.autointerp.collect import WindowCollector
from core.autointerp.config import AutoInterpConfig
from core.autointerp.controls import CONTROLS, control_sae
from core.autointerp.gather import (
    check_gathering,
    latent_activations,
    lengths_for,
    not_counted,
    token_set_batches,
)
from core.autointerp.neighbours import nearest_latents
from core.autointerp.windows import LatentWindows, from_arrays, to_arrays
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.injection import unit_directions
from core.store import ARRAYS, Key, Store
from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae
from core.view.autointerp.request import RunRequest

N_NEIGHBOURS = 4
"""Decoder neighbours that a latent is told from."""
_BATCHES_A_LEASE = 2
_VERSION = 2
_FIELDS = (
    "buffer",
    "no_overlap",
    "total_tokens",
    "n_top_ex_for_generation",
    "n_top_ex_for_scoring",
    "n_random_ex_for_scoring",
    "across_quantiles",
    "seed",
)


@dataclass(frozen=True, eq=False)
class Gathered:
    """What one pass found."""

    cfg: AutoInterpConfig
    """Settings, with the latents of the run."""
    windows: Mapping[int, LatentWindows]
    """Of these latents and of their neighbours."""
    neighbours: Mapping[int, tuple[int, ...]]
    """Decoder neighbours of each latent; empty unless they are wanted."""
    controls: Mapping[str, Mapping[int, LatentWindows]]
    """By kind of control: windows of its units."""
    directions: Mapping[str, Float[Tensor, "n d_model"]]
    """By kind of control: what its units write, of norm 1; empty unless a model explains it."""
    token_set: TokenSet
    """The text."""
    d_sae: int
    """Latents of the SAE."""
    sae_fingerprint: str
    """Of its weights."""
    n_silent: int
    """Candidates that never fired on the text and were passed over."""
    notes: tuple[str, ...]
    """What a reader should know, in sentences."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Latents of one SAE that are looked at."""

    sae: SAE | None
    """None for the engine's own SAE, which is only there within a lease."""
    latents: list[int]
    """Which."""
    key: Key
    """Where their windows are kept."""


def gather(engine: Engine, store: Store, request: RunRequest, progress: Progress) -> Gathered:
    """Windows of the request's latents, from the store where it has them.

    Raises:
        ValueError: latents that do not exist, rows too short for the windows, or no latent that
            fires.
        JobCancelled: through `progress`.
    """
    with engine.use(request.model, [request.sae]) as (model, (sae,)):
        tokenizer = copy.deepcopy(model.tokenizer)  # tokenizers are not for several threads
        packing = replace(default_packing(model, sae), max_tokens=request.view.total_tokens)
        d_sae, prints = sae.cfg.d_sae, (fingerprint_of_model(model), fingerprint_of_sae(sae))
        candidates, wanted = request.candidates(d_sae)
        cfg = request.config(candidates)
        check_gathering(model, sae, cfg, candidates, packing.context)
        near = _neighbours(sae, candidates, request)
    token_set = load_token_set(request.corpus, tokenizer, packing, store=store, progress=progress)
    whole = list(dict.fromkeys([*candidates, *(it for some in near.values() for it in some)]))
    parts = [_Part(None, whole, _key(prints, token_set, cfg, whole, "latents"))]
    notes: list[str] = []
    directions: dict[str, Tensor] = {}
    made: dict[str, SAE] = {}
    if request.view.controls:
        for kind in CONTROLS:
            try:
                with engine.use(request.model, [request.sae]) as (model, (sae,)):
                    own = candidates[:wanted]
                    control, numbers = control_sae(
                        kind, model, sae, own, token_set, seed=request.view.seed
                    )
            except ValueError as error:
                notes.append(f"There is no control by {kind}: {error}")
                continue
            made[kind] = control
            if request.explaining_model:
                directions[kind] = _written(engine, request, control, numbers)
            key = _key(prints, token_set, replace(cfg, latents=own), own, kind)
            parts.append(_Part(control, numbers, key))
    found = _windows(engine, store, request, parts, token_set, cfg, progress)
    windows = found[0]
    alive = [latent for latent in candidates if len(windows[latent].top)]
    silent = len(candidates) - len(alive)
    if request.view.choose == "random":
        last = alive[:wanted][-1:] or [candidates[-1]]
        silent = candidates.index(last[0]) + 1 - len(alive[:wanted])
        alive = alive[:wanted]
    if not alive:
        raise ValueError(
            "None of these latents fires on the text; read more of it, or choose other latents."
        )
    chosen = alive if request.view.choose == "random" else candidates
    return Gathered(
        cfg=replace(cfg, latents=chosen),
        windows=windows,
        neighbours={latent: near.get(latent, ()) for latent in chosen},
        controls=dict(zip(made, found[1:], strict=True)),
        directions=directions,
        token_set=token_set,
        d_sae=d_sae,
        sae_fingerprint=prints[1],
        n_silent=silent,
        notes=tuple(notes),
    )


def _written(
    engine: Engine, request: RunRequest, control: SAE, units: Sequence[int]
) -> Float[Tensor, "n d_model"]:
    """What a control's units write to the stream of the model that explains."""
    with engine.use(request.explaining_model) as (model, _):
        return unit_directions(model, control, units)


def _neighbours(
    sae: SAE, candidates: Sequence[int], request: RunRequest
) -> dict[int, tuple[int, ...]]:
    wanted = {"neighbours"} & ({*request.view.switches} | {*request.view.scores})
    if not wanted or sae.cfg.d_sae < 2:
        return {}
    found = nearest_latents(sae, candidates, min(N_NEIGHBOURS, sae.cfg.d_sae - 1))
    return {latent: tuple(row) for latent, row in zip(candidates, found.tolist(), strict=True)}


def _key(
    prints: tuple[str, str],
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    latents: Sequence[int],
    kind: str,
) -> Key:
    settings = {name: value for name, value in asdict(cfg).items() if name in _FIELDS}
    parameters = {
        "model": prints[0],
        "sae": prints[1],
        "tokens": token_set.digest,
        "settings": settings,
        "latents": list(latents),
        "kind": kind,
    }
    return Key("autointerp-windows", _VERSION, parameters)


def _windows(
    engine: Engine,
    store: Store,
    request: RunRequest,
    parts: Sequence[_Part],
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    progress: Progress,
) -> list[dict[int, LatentWindows]]:
    """Windows of each part; those that the store lacks are collected in one pass."""
    kept = [store.get(part.key, ARRAYS) for part in parts]
    missing = [number for number, arrays in enumerate(kept) if arrays is None]
    found = {n: from_arrays(arrays) for n, arrays in enumerate(kept) if arrays is not None}
    if missing:
        collected = _collect(
            engine, request, [parts[number] for number in missing], token_set, cfg, progress
        )
        for number, windows in zip(missing, collected, strict=True):
            store.put(parts[number].key, to_arrays(windows), ARRAYS)
            found[number] = windows
    return [found[number] for number in range(len(parts))]


def _collect(
    engine: Engine,
    request: RunRequest,
    parts: Sequence[_Part],
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    progress: Progress,
) -> list[dict[int, LatentWindows]]:
    lengths = lengths_for(token_set, cfg)
    collectors = [WindowCollector(part.latents, cfg, lengths) for part in parts]
    batches = list(token_set_batches(token_set, cfg))
    done, total = 0, int(lengths.sum())
    for start in range(0, len(batches), _BATCHES_A_LEASE):
        progress.update(done, total, unit="tokens", message="Looking for examples in the text")
        some = batches[start : start + _BATCHES_A_LEASE]
        with engine.use(request.model, [request.sae]) as (model, (sae,)):
            acts = [
                latent_activations(
                    model,
                    [(it.sae if it.sae is not None else sae, it.latents) for it in parts],
                    tokens,
                    ignored=not_counted(token_set, rows, tokens),
                    progress=progress,
                )
                for rows, tokens in some
            ]
        # Sorting through them needs no model: the next user has it meanwhile.
        for (rows, tokens), by_part in zip(some, acts, strict=True):
            for collector, found in zip(collectors, by_part, strict=True):
                collector.add(rows, tokens, found)
            done += int(lengths[rows].sum())
    return [collector.result() for collector in collectors]
