"""Writes: which tokens does the latent push, and what comes of adding or removing it?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from core.dossier.measure import Controls, Measure, share
from core.dossier.shared import Shared, Units
from core.enrichment.figures import pairs_table
from core.enrichment.run import EnrichmentFound, enrichment_of_sae
from core.logit_lens import top_token_ids
from core.logit_statistics import LogitEffects, logit_effects, logit_moments
from core.patch_scoping.sampling import Sampling
from core.saes.writes import residual_directions
from core.steering.effects import divergences, reference_text
from core.steering.intervention import Intervention, Place
from core.steering.measures import mean_interval
from core.steering.request import SteerRequest
from core.steering.run import run_steering
from core.steering.score_run import SteeringScores, run_scores
from core.steering.steerer import Steerer
from core.steering.view import DEFAULT_PROMPT

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

VERSION = 1
STEER_KL = 0.5
"""Mean change of the predictions, in nats, that the latent is steered to."""
N_PUSHED = 20
"""Tokens pushed most that count as the latent's own."""
_N_ABLATED = 8
_N_RANDOM = 4
_N_SETS = 12


@dataclass(frozen=True, eq=False)
class Writes:
    """What one latent does to the output."""

    measures: tuple[Measure, ...]
    """Its numbers."""
    effects: LogitEffects
    """Logit lens: tokens pushed up and down, and the spread over the vocabulary."""
    sets: pd.DataFrame
    """Kinds of tokens: `set`, `group`, `size`, `score`, `q`, `beyond` (share of random directions
    as far out), those first that the fewest random directions reach."""
    next_tokens: pd.DataFrame
    """Tokens behind the peaks of the strongest examples: `token`, `examples`, `pushed`."""
    ablation: pd.DataFrame
    """A row for each of the strongest examples: `text`, `kl` (change of the prediction at the peak
    when the latent is removed, in nats), `random` (mean of random directions as long)."""
    steered: pd.DataFrame
    """Texts: `kind` (unsteered, latent, random), `kl`, `gain` (in the probability of the pushed
    tokens on held-out text, with its interval), `text`."""
    steer_problem: str
    """Why there is no steered text; empty where there is."""
    notes: tuple[str, ...]
    """What has to be known to read the effects."""


def figures(shared: Shared, units: Units, numbers: Sequence[int]) -> pd.DataFrame:
    """Figures of some units that are compared with controls."""
    whole, token_set = units.whole, units.index.token_set
    places = whole.top_places[list(numbers)]
    around = token_set.windows(places, 0, 1)
    with units.lease.turn() as (model, (sae, *_)), torch.no_grad():
        directions = residual_directions(model, sae, list(numbers)).float().clone()
        W_U = model.W_U.detach().clone()
    pushed = top_token_ids(directions, W_U, N_PUSHED).boosted
    moments = logit_moments(directions, W_U)
    return pd.DataFrame(
        {
            "on_peak": _share_among(around[..., 0], pushed),
            "on_next": _share_among(around[..., 1], pushed),
            "kurtosis": moments.kurtosis,
            "skew": moments.skewness,
        }
    )


def write_section(shared: Shared, latent: int) -> Writes:
    """The section of a latent. Raises ValueError for a site that does not write to the stream."""
    units = shared.own
    lease = shared.lease
    effects = logit_effects(lease, latent)
    found = enrichment_of_sae(lease, shared.store)
    scores = run_scores(lease, shared.store, units.index)
    ablation = ablated(shared, latent)
    steered, gain, problem = _steered(shared, latent)
    beside = shared.beside("writes", figures, VERSION, latent)
    measures = _measures(shared, latent, scores, ablation, gain, beside)
    return Writes(
        measures=measures,
        effects=effects,
        sets=_sets(found, latent),
        next_tokens=_next(units, latent),
        ablation=ablation,
        steered=steered,
        steer_problem=problem,
        notes=effects.notes,
    )


def ablated(shared: Shared, latent: int) -> pd.DataFrame:
    """Change of the prediction at the peaks of the strongest examples when the latent is removed.

    Beside it the same with random directions, as long and with the same change of activation.
    """
    units = shared.own
    token_set = units.index.token_set
    places = units.whole.top_places[latent]
    places = places[places >= 0][:_N_ABLATED]
    removed = Intervention((latent,), (0.0,), "ablate")
    rows: list[dict[str, object]] = []

    def work(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        for place in places[first:last].tolist():
            row, position = divmod(place, token_set.context)
            ids = token_set.tokens[row, : position + 1].astype(np.int64)
            device = next(model.parameters()).device
            tokens = torch.from_numpy(ids)[None].to(device)
            some = [removed, *(replace(removed, random=seed) for seed in range(_N_RANDOM))]
            steerer = Steerer(
                model, saes[0], some, n_prompt=len(ids), n_leading=token_set.leading(row)
            )
            reference = reference_text(model, tokens, position)
            kl = divergences(model, steerer, range(len(some)), reference).tolist()
            rows.append({"place": place, "kl": kl[0], "random": float(np.mean(kl[1:]))})

    shared.lease.in_turns(len(places), work, unit="examples", message="Removing the latent", step=2)
    return pd.DataFrame(rows, columns=["place", "kl", "random"])


def _measures(
    shared: Shared,
    latent: int,
    scores: SteeringScores,
    ablation: pd.DataFrame,
    gain: Measure,
    beside: dict[str, Controls],
) -> tuple[Measure, ...]:
    own = figures(shared, shared.own, [latent]).iloc[0]
    n = int((shared.own.whole.top_places[latent] >= 0).sum())
    output = float(scores.output.calibrated[latent])
    change = mean_interval(ablation["kl"].to_numpy(float))
    return (
        share(
            "on_peak",
            "Strongest examples whose own token it pushes",
            round(float(np.nan_to_num(own["on_peak"])) * n),
            n,
            "examples",
            **beside["on_peak"],
        ),
        share(
            "on_next",
            "Strongest examples whose next token it pushes",
            round(float(np.nan_to_num(own["on_next"])) * n),
            n,
            "examples",
            **beside["on_next"],
        ),
        Measure(
            "kurtosis",
            "How far few tokens stand out among its effects (excess kurtosis)",
            float(own["kurtosis"]),
            n=len(shared.own.index.vocabulary.array),
            of="tokens of the vocabulary",
            **beside["kurtosis"],
        ),
        Measure(
            "output_score",
            f"Output score at a KL of {STEER_KL:g}: does it make the model say what it pushes?",
            output,
            n=len(scores.output_null),
            of="random directions",
            directions=tuple(scores.output_null[np.isfinite(scores.output_null)].tolist()),
            latents=tuple(
                it for it in scores.output.calibrated[shared.peers].tolist() if np.isfinite(it)
            ),
        ),
        gain,
        Measure(
            "ablation",
            "Change of the prediction at its peaks when it is removed (KL, in nats)",
            *change,
            n=len(ablation),
            of="strongest examples",
            directions=tuple(ablation["random"].astype(float)),
        ),
    )


def _steered(shared: Shared, latent: int) -> tuple[pd.DataFrame, Measure, str]:
    """Texts at an equal change of the predictions, and the gain of the pushed tokens."""
    request = shared.request
    wanted = SteerRequest(
        model=request.model,
        sae=request.sae_name,
        sae_version=request.sae[2],
        groups=((latent,),),
        prompt=DEFAULT_PROMPT,
        chat=False,
        mode="add",
        unit="kl",
        strengths=(STEER_KL,),
        place=Place(),
        largest=(),
        sampling=Sampling(),
        new_tokens=20,
        n_random=_N_RANDOM,
    )
    title = "Gain in the probability of the pushed tokens on held-out text, steered"
    nothing = Measure("gain", title, float("nan"), of="held-out texts")
    empty = pd.DataFrame(columns=["kind", "kl", "gain", "gain_low", "gain_high", "text"])
    try:
        found = run_steering(shared.lease, shared.store, wanted)
    except ValueError as error:
        return empty, nothing, str(error)
    texts = found.texts[found.texts["sample"] == 0].set_index("row")["text"]
    table = found.rows.assign(text=found.rows["row"].map(texts))
    own = table[table["kind"] == "latent"].iloc[0]
    others = table.loc[table["kind"] == "random", "gain"].astype(float)
    measure = Measure(
        "gain",
        title,
        float(own["gain"]),
        float(own["gain_low"]),
        float(own["gain_high"]),
        found.n_held_out,
        "held-out texts",
        directions=tuple(others),
    )
    return table[list(empty.columns)].reset_index(drop=True), measure, ""


def _sets(found: EnrichmentFound, latent: int) -> pd.DataFrame:
    pairs = pairs_table(found, most=_N_SETS, beyond=None, latent=latent)
    return pairs.drop(columns=["latent", "log10_p"])


def _next(units: Units, latent: int) -> pd.DataFrame:
    places = units.whole.top_places[latent]
    around = units.index.token_set.windows(places[places >= 0], 0, 1)[:, 1]
    different, counts = np.unique(around[around >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return pd.DataFrame(
        {
            "id": different[order].astype(np.int64),
            "token": [units.index.vocabulary.text(int(it)) for it in different[order]],
            "examples": counts[order],
        }
    )


def _share_among(ids: "np.ndarray", pushed: "np.ndarray") -> Float[np.ndarray, " n"]:
    """Share of each unit's tokens, -1 for none, that are among those it pushes."""
    known = ids >= 0
    hits = ((ids[:, :, None] == pushed[:, None, :]).any(2) & known).sum(1)
    n = known.sum(1)
    return np.where(n > 0, hits / np.maximum(n, 1), np.nan)
