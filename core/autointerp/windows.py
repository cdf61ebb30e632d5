"""Windows of the latents of a run and of its controls: one pass over the text, kept in the store.

Another explainer, or a link opened later, needs no pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.autointerp.config import AutoInterpConfig
from core.autointerp.controls import CONTROLS, control_sae
from core.autointerp.examples import LatentWindows, Windows
from core.autointerp.gather import Part, check_gathering, gather_windows
from core.autointerp.indexed import windows_by_index
from core.autointerp.negatives import nearest_latents
from core.autointerp.request import RunRequest
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.patch_scoping.injection import unit_directions
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

N_NEIGHBOURS = 4
"""Decoder neighbours that a latent is told from."""
_VERSION = 3
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
class RunWindows:
    """What one pass found for a run."""

    cfg: AutoInterpConfig
    """Settings, with the latents of the run."""
    by_latent: Mapping[int, LatentWindows]
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

    def threshold(self, latent: int) -> float:
        """Activation above which a latent counts as active."""
        return self.cfg.act_threshold_frac * float(self.by_latent[latent].top.acts.max(initial=0))


@dataclass(frozen=True, eq=False)
class _Stored:
    """An entry of the store: few large arrays, because thousands of small ones take seconds."""

    latents: tuple[int, ...]
    """Latents, or units of a control."""
    sizes: Mapping[str, Int[np.ndarray, " n"]]
    """By kind of window (a field of `LatentWindows`): how many each latent has."""
    windows: Mapping[str, Windows]
    """By kind: the windows of all latents, one latent after the other."""

    @classmethod
    def of(cls, by_latent: Mapping[int, LatentWindows]) -> "_Stored":
        """The entry that holds these windows."""
        sizes, windows = {}, {}
        for kind in (part.name for part in fields(LatentWindows)):
            first, *others = (getattr(found, kind) for found in by_latent.values())
            sizes[kind] = np.array([len(part) for part in (first, *others)], dtype=np.int64)
            windows[kind] = first.join(*others)
        return cls(tuple(by_latent), sizes, windows)

    def by_latent(self) -> dict[int, LatentWindows]:
        """The windows that `of` was given."""
        parts = []
        for kind, sizes in self.sizes.items():
            ends = sizes.cumsum()
            spans = zip(ends - sizes, ends, strict=True)
            parts.append([self.windows[kind].take(np.arange(*span)) for span in spans])
        return {
            latent: LatentWindows(*windows)
            for latent, *windows in zip(self.latents, *parts, strict=True)
        }


_STORED = dataclass_codec(_Stored)


@dataclass
class _Controls:
    """What a run's controls are."""

    parts: dict[str, Part] = field(default_factory=dict)
    """By kind: its units."""
    directions: dict[str, Tensor] = field(default_factory=dict)
    """By kind: what they write, where a model explains it."""
    notes: list[str] = field(default_factory=list)
    """Why a kind is missing."""


def run_windows(
    lease: Lease, store: Store, request: RunRequest, speaker: Lease | None = None
) -> RunWindows:
    """Windows of the request's latents, from the store where it has them.

    The leases have the request's model and SAE, and the model that explains, where one does so.

    Raises:
        ValueError: latents that do not exist, rows too short for the windows, or no latent that
            fires.
        JobCancelled: through the lease's progress.
    """
    with lease.turn() as (model, (sae,)):
        packing = replace(default_packing(model, sae), max_tokens=request.view.total_tokens)
        d_sae = sae.cfg.d_sae
        candidates, wanted = request.candidates(d_sae)
        cfg = request.config(candidates)
        check_gathering(model, sae, cfg, candidates, packing.context)
        near = _neighbours(sae, candidates, request)
    token_set = load_token_set(
        request.corpus, lease.tokenizer, packing, store=store, progress=lease.progress
    )
    first = candidates[:wanted]
    controls = _Controls()
    if request.view.controls:
        controls = _controls(lease, request, first, token_set, speaker)
    neighbours = (latent for some in near.values() for latent in some)
    whole = list(dict.fromkeys([*candidates, *neighbours]))
    parts = {_key(lease, token_set, cfg, whole, "latents"): Part(whole)}
    for kind, part in controls.parts.items():
        parts[_key(lease, token_set, cfg, first, kind)] = part
    known = _by_index(lease, store, request, token_set, cfg, whole)
    windows, *others = _stored_or_gathered(lease, store, parts, token_set, cfg, known)
    alive = [latent for latent in candidates if len(windows[latent].top)]
    silent = len(candidates) - len(alive)
    if request.view.choose == "random":
        alive = alive[:wanted]
        last = alive[-1:] or [candidates[-1]]
        silent = candidates.index(last[0]) + 1 - len(alive)
    if not alive:
        raise ValueError(
            "None of these latents fires on the text; read more of it, or choose other latents."
        )
    chosen = alive if request.view.choose == "random" else candidates
    return RunWindows(
        cfg=replace(cfg, latents=chosen),
        by_latent=windows,
        neighbours={latent: near.get(latent, ()) for latent in chosen},
        controls=dict(zip(controls.parts, others, strict=True)),
        directions=controls.directions,
        token_set=token_set,
        d_sae=d_sae,
        sae_fingerprint=lease.sae_fingerprints[0],
        n_silent=silent,
        notes=tuple(controls.notes),
    )


def _controls(
    lease: Lease,
    request: RunRequest,
    latents: Sequence[int],
    token_set: TokenSet,
    speaker: Lease | None,
) -> _Controls:
    """The controls of some latents, as far as the SAE has them."""
    found = _Controls()
    for kind in CONTROLS:
        try:
            with lease.turn() as (model, (sae,)):
                control, units = control_sae(
                    kind, model, sae, latents, token_set, seed=request.view.seed
                )
        except ValueError as error:
            found.notes.append(f"There is no control by {kind}: {error}")
            continue
        found.parts[kind] = Part(units, control)
        if speaker is not None:
            with speaker.turn() as (model, _):
                found.directions[kind] = unit_directions(model, control, units)
    return found


def _neighbours(
    sae: SAE, candidates: Sequence[int], request: RunRequest
) -> dict[int, tuple[int, ...]]:
    wanted = {"neighbours"} & ({*request.view.switches} | {*request.view.scores})
    if not wanted or sae.cfg.d_sae < 2:
        return {}
    found = nearest_latents(sae, candidates, min(N_NEIGHBOURS, sae.cfg.d_sae - 1))
    return {latent: tuple(row) for latent, row in zip(candidates, found.tolist(), strict=True)}


def _key(
    lease: Lease, token_set: TokenSet, cfg: AutoInterpConfig, latents: Sequence[int], kind: str
) -> Key:
    settings = {name: value for name, value in asdict(cfg).items() if name in _FIELDS}
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "tokens": token_set.digest,
        "settings": settings,
        "latents": list(latents),
        "kind": kind,
    }
    return Key("autointerp-windows", _VERSION, parameters)


def _by_index(
    lease: Lease,
    store: Store,
    request: RunRequest,
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    latents: Sequence[int],
) -> Mapping[int, LatentWindows] | None:
    """What the index of the text determines of a few latents, where nothing else is asked of it."""
    more = {"quantiles", "same-token", "neighbours"}
    if more & ({*request.view.switches} | {*request.view.scores}):
        return None
    if store.get(_key(lease, token_set, cfg, latents, "latents"), _STORED) is not None:
        return None  # the whole text was read for them before
    key = _key(lease, token_set, cfg, latents, "latents by the index")
    stored = store.get(key, _STORED)
    if stored is not None:
        return stored.by_latent()
    found = windows_by_index(lease, store, token_set, cfg, latents)
    if found is not None:
        store.put(key, _Stored.of(found), _STORED)
    return found


def _stored_or_gathered(
    lease: Lease,
    store: Store,
    parts: Mapping[Key, Part],
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    by_index: Mapping[int, LatentWindows] | None,
) -> list[dict[int, LatentWindows]]:
    """Windows of each part; those that the store lacks are looked for in one pass.

    `by_index` are those of the first part, where they are known.
    """
    stored = {key: store.get(key, _STORED) for key in parts}
    if by_index is not None:
        stored[next(iter(parts))] = _Stored.of(by_index)
    found = {key: entry.by_latent() for key, entry in stored.items() if entry is not None}
    missing = [key for key in parts if key not in found]
    if missing:
        new = gather_windows(lease, token_set, cfg, [parts[key] for key in missing])
        for key, windows in zip(missing, new, strict=True):
            store.keep(key, _Stored.of(windows), _STORED)
            found[key] = windows
    return [found[key] for key in parts]
