"""All that is known before anything is asked: what each latent is explained and scored with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sae_lens import SAE

from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import Example, LatentWindows, split_windows
from core.autointerp.negatives import neighbour_windows, same_token_inactive, split_neighbours
from core.autointerp.patch_scoping import Explanations, explain_by_model
from core.autointerp.request import RunRequest
from core.autointerp.roles import Evidence, Material
from core.autointerp.windows import RunWindows, run_windows
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.logit_lens import top_tokens
from core.models.hooks import Model
from core.saes.writes import residual_directions
from core.steering.token_change import token_changes
from core.store import Store
from core.tokens import token_texts

N_BOOSTED = 10
"""Tokens that the explainer is told a latent makes likelier."""
_N_NEGATIVES = 5
_FIRST_STEP = 4
_CHANGED_TEXTS, _CHANGED_LENGTH = 32, 32


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run is made from."""

    request: RunRequest
    """What was wanted."""
    found: RunWindows
    """Latents, settings and windows."""
    materials: Mapping[int, Material]
    """By latent."""
    controls: Mapping[str, Mapping[int, Material]]
    """By kind of control and unit."""
    explanations: Explanations
    """What the model itself says, where that is the explainer."""
    control_explanations: Mapping[str, Explanations]
    """What it says of the units of each control."""


def prepare(
    lease: Lease, store: Store, request: RunRequest, speaker: Lease | None = None
) -> Prepared:
    """Everything that needs the model.

    The lease has the request's model and SAE; `speaker` has the model that explains and the SAE,
    where a model explains. Without it none is asked: for who brings explanations.

    Raises:
        ValueError: as `run_windows`, or latents to be explained by a model that do not write to its
            residual stream.
        JobCancelled: through the lease's progress.
    """
    found = run_windows(lease, store, request, speaker)
    controls = {
        kind: _control_materials(lease, found.cfg, windows)
        for kind, windows in found.controls.items()
    }
    materials = _materials(lease, request, found)
    own: Explanations = {}
    others: Mapping[str, Explanations] = {}
    if speaker is not None:
        written = {
            kind: (list(found.controls[kind]), directions)
            for kind, directions in found.directions.items()
        }
        own, others = explain_by_model(speaker, store, request, found.cfg.latents, written)
    return Prepared(request, found, materials, controls, own, others)


def _materials(lease: Lease, request: RunRequest, found: RunWindows) -> dict[int, Material]:
    """What each latent of the run is explained and scored with."""
    materials: dict[int, Material] = {}

    def work(model: Model, saes: list[SAE], first: int, last: int) -> None:
        group = found.cfg.latents[first:last]
        cfg = replace(found.cfg, latents=group)
        generation, scoring = split_windows(found.by_latent, cfg, model)
        is_told = "boosted" in request.view.switches
        boosted = _boosted(model, saes[0], group) if is_told else {}
        changed = _changed(lease, model, saes[0], group, request, found)
        for latent in group:
            negatives, hard = (
                _negatives(model, saes[0], latent, request, found)
                if generation[latent]
                else ([], [])
            )
            evidence = Evidence(
                latent,
                generation[latent],
                negatives,
                boosted.get(latent, ()),
                changed.get(latent, ()),
            )
            materials[latent] = Material(evidence, scoring[latent], hard)

    lease.in_turns(
        len(found.cfg.latents),
        work,
        unit="latents",
        message="Preparing examples",
        step=_FIRST_STEP,
    )
    return materials


def _control_materials(
    lease: Lease, cfg: AutoInterpConfig, windows: Mapping[int, LatentWindows]
) -> dict[int, Material]:
    """The plain examples of a control's units."""
    units = list(windows)
    materials: dict[int, Material] = {}

    def work(model: Model, _: list[SAE], first: int, last: int) -> None:
        group = units[first:last]
        generation, scoring = split_windows(windows, replace(cfg, latents=group), model)
        for unit in group:
            materials[unit] = Material(Evidence(unit, generation[unit]), scoring[unit])

    lease.in_turns(len(units), work, unit="units", message="Preparing controls", step=_FIRST_STEP)
    return materials


def _negatives(
    model: Model, sae: SAE, latent: int, request: RunRequest, found: RunWindows
) -> tuple[list[Example], list[Example]]:
    """(texts in which the latent is silent, for the explainer; its neighbours' texts, to score)."""
    cfg, switches = found.cfg, request.view.switches
    contrast: list[Example] = []
    hard: list[Example] = []
    same_token: list[Example] = []
    rows: list[int] = []
    if found.neighbours[latent]:
        windows = neighbour_windows(
            model, sae, found.token_set, latent, found.by_latent, found.neighbours[latent], cfg
        )
        rows = windows.rows.tolist()
        contrast, hard = split_neighbours(
            windows,
            found.threshold(latent),
            model,
            cfg,
            n_contrast=_N_NEGATIVES if "neighbours" in switches else 0,
            n_scoring=cfg.n_random_ex_for_scoring,
        )
    if "same-token" in switches:
        same_token = same_token_inactive(
            model,
            sae,
            found.token_set,
            latent,
            found.by_latent[latent],
            cfg,
            n=_N_NEGATIVES,
            avoid_rows=rows,
        )
    return [*same_token, *contrast], hard


def _boosted(model: Model, sae: SAE, latents: Sequence[int]) -> dict[int, list[str]]:
    ids, _ = top_tokens(residual_directions(model, sae, latents), model.W_U, N_BOOSTED)
    texts = token_texts(model.tokenizer)
    tokens = [[texts.text(token) for token in row] for row in ids.tolist()]
    return dict(zip(latents, tokens, strict=True))


def _changed(
    lease: Lease,
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    request: RunRequest,
    found: RunWindows,
) -> dict[int, list[str]]:
    """Tokens that come more often when each latent is amplified over texts of the run."""
    if "changed" not in request.view.switches:
        return {}
    rows, n_leading = changed_texts(found.token_set, seed=found.cfg.seed)
    device = next(model.parameters()).device
    changes = token_changes(
        model,
        sae,
        latents,
        torch.from_numpy(rows).to(device),
        n_leading=n_leading,
        k=N_BOOSTED,
        check=lease.progress.check,
    )
    texts = token_texts(model.tokenizer)
    return {
        latent: [texts.text(token) for token in changes.beyond(row)]
        for row, latent in enumerate(latents)
    }


def changed_texts(token_set: TokenSet, *, seed: int) -> tuple[np.ndarray, int]:
    """Token ids `[texts, positions]` of some rows that are long enough, drawn, and how many of
    their first tokens are BOS. Raises ValueError where there are none."""
    length = min(_CHANGED_LENGTH, token_set.context)
    whole = np.flatnonzero(token_set.lengths >= length)
    if not len(whole):
        raise ValueError(
            f"No text has {length} tokens to amplify latents over; read a longer text."
        )
    order = np.random.default_rng(seed).permutation(whole)[:_CHANGED_TEXTS]
    return token_set.tokens[order, :length].astype(np.int64), int(token_set.leading(int(order[0])))
