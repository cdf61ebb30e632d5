"""From windows to what explainers and scorers are given: examples, negatives, boosted tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sae_lens import SAE

from core.autointerp.config import AutoInterpConfig
from core.autointerp.counterexamples import same_token_inactive
from core.autointerp.example import Example
from core.autointerp.neighbours import neighbour_windows, split_neighbours
from core.autointerp.roles import Evidence, Material
from core.autointerp.split import split_windows
from core.autointerp.windows import LatentWindows
from core.engine import Engine
from core.jobs.progress import Progress
from core.logit_lens import top_tokens
from core.models.hooks import Model
from core.saes.writes import residual_directions
from core.tokens import token_texts
from core.view.autointerp.gathering import Gathered
from core.view.autointerp.request import RunRequest

N_BOOSTED = 10
"""Tokens that the explainer is told a latent makes likelier."""
_N_NEGATIVES = 5
_LATENTS_A_LEASE = 4
_PLAIN_LATENTS_A_LEASE = 32


def materials_of(
    engine: Engine, request: RunRequest, gathered: Gathered, progress: Progress
) -> dict[int, Material]:
    """What each latent of the run is explained and scored with."""
    latents = gathered.cfg.latents
    found: dict[int, Material] = {}
    slow = {"same-token", "neighbours"} & ({*request.view.switches} | {*request.view.scores})
    at_once = _LATENTS_A_LEASE if slow else _PLAIN_LATENTS_A_LEASE
    for start in range(0, len(latents), at_once):
        progress.update(start, len(latents), unit="latents", message="Preparing examples")
        group = latents[start : start + at_once]
        with engine.use(request.model, [request.sae]) as (model, (sae,)):
            found |= _group(model, sae, group, request, gathered, progress)
    return found


def control_materials(
    engine: Engine,
    request: RunRequest,
    cfg: AutoInterpConfig,
    windows: Mapping[int, LatentWindows],
) -> dict[int, Material]:
    """The plain examples of a control's units."""
    units = list(windows)
    found: dict[int, Material] = {}
    for start in range(0, len(units), _PLAIN_LATENTS_A_LEASE):
        group = units[start : start + _PLAIN_LATENTS_A_LEASE]
        with engine.use(request.model) as (model, _):
            generation, scoring = split_windows(dict(windows), replace(cfg, latents=group), model)
        for unit in group:
            found[unit] = Material(Evidence(unit, generation[unit]), scoring[unit])
    return found


def _group(
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    request: RunRequest,
    gathered: Gathered,
    progress: Progress,
) -> dict[int, Material]:
    cfg = replace(gathered.cfg, latents=list(latents))
    generation, scoring = split_windows(dict(gathered.windows), cfg, model)
    switches = request.view.switches
    boosted = _boosted(model, sae, latents) if "boosted" in switches else {}
    found = {}
    for latent in latents:
        windows = gathered.windows[latent]
        contrast: list[Example] = []
        hard: list[Example] = []
        negatives: list[Example] = []
        rows: list[int] = []
        if gathered.neighbours[latent] and generation[latent]:
            threshold = cfg.act_threshold_frac * float(windows.top.acts.max(initial=0))
            beside = neighbour_windows(
                model,
                sae,
                gathered.token_set,
                latent,
                gathered.windows,
                gathered.neighbours[latent],
                cfg,
                progress=progress,
            )
            rows = beside.rows.tolist()
            contrast, hard = split_neighbours(
                beside,
                threshold,
                model,
                cfg,
                n_contrast=_N_NEGATIVES if "neighbours" in switches else 0,
                n_scoring=cfg.n_random_ex_for_scoring,
            )
        if "same-token" in switches and generation[latent]:
            negatives = same_token_inactive(
                model,
                sae,
                gathered.token_set,
                latent,
                windows,
                cfg,
                n=_N_NEGATIVES,
                avoid_rows=rows,
            )
        negatives += contrast
        evidence = Evidence(latent, generation[latent], negatives, boosted.get(latent, ()))
        found[latent] = Material(evidence, scoring[latent], hard)
    return found


def _boosted(model: Model, sae: SAE, latents: Sequence[int]) -> dict[int, list[str]]:
    ids, _ = top_tokens(residual_directions(model, sae, latents), model.W_U, N_BOOSTED)
    texts = token_texts(model.tokenizer)
    return dict(zip(latents, [[texts.text(it) for it in row] for row in ids.tolist()], strict=True))
