"""Both scores of every latent of an SAE, under a lease, kept in the store."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.activations.stored_index import open_index
from core.activations.text_index import OpenIndex
from core.lease import Lease
from core.saes.writes import WRITES_VERSION, residual_directions, unit_writes
from core.steering.last_position import LastPosition
from core.steering.peaks import input_scores, peak_tokens, shuffled_input_scores
from core.steering.scores import OutputScores, ScoreConfig, p_values, random_rows, scored
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

_VERSION = 1
_STEP = 256


@dataclass(frozen=True, eq=False)
class AllOutputScores:
    """Output scores of all latents of an SAE beside those of random directions."""

    own: OutputScores
    """Of each latent."""
    null: OutputScores
    """Of random directions of the latents' median length."""


_CODEC = dataclass_codec(AllOutputScores)


@dataclass(frozen=True, eq=False)
class SteeringScores:
    """How well each latent is suited to be steered with."""

    input_score: Float[np.ndarray, " d_sae"]
    """Share of its strongest texts whose peak token it pushes; NaN with fewer than ten texts."""
    output: OutputScores
    """Output scores."""
    p: Float[np.ndarray, " d_sae"]
    """Share of random directions whose calibrated output score is as high."""
    input_null: float
    """Mean input score with the tokens of other latents: what chance gives."""
    output_null: Float[np.ndarray, " n"]
    """Calibrated output scores of random directions."""
    authors_null: Float[np.ndarray, " n"]
    """Their output scores in the authors' setting."""

    def table(self) -> pd.DataFrame:
        """A row for each latent: `latent`, `input_score`, `output_score` (at equal KL),
        `output_authors`, `output_p`, `kl_strength` (activation at which the KL is reached)."""
        return pd.DataFrame(
            {
                "latent": np.arange(len(self.input_score)),
                "input_score": self.input_score,
                "output_score": self.output.calibrated,
                "output_authors": self.output.authors,
                "output_p": self.p,
                "kl_strength": self.output.strength,
            }
        )


def score_key(lease: Lease, config: ScoreConfig) -> Key:
    """Where the output scores of the lease's first SAE are kept."""
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "config": {**asdict(config), "prompts": list(config.prompts)},
        "writes": WRITES_VERSION,
    }
    return Key("steering-output-scores", _VERSION, parameters)


def all_output_scores(
    lease: Lease, store: Store, config: ScoreConfig | None = None
) -> AllOutputScores:
    """Output scores of all latents of the lease's first SAE, from the store or made now.

    Raises ValueError for an SAE whose latents do not write to the stream.
    """
    config = config or ScoreConfig()
    return store.get_or_compute(
        score_key(lease, config),
        lambda: _made(lease, config),
        _CODEC,
        waiting=lease.progress.check,
    )


def run_scores(
    lease: Lease, store: Store, index: OpenIndex, config: ScoreConfig | None = None
) -> SteeringScores:
    """Scores of all latents of the lease's first SAE, which `index` is of.

    Raises:
        ValueError: an SAE whose latents do not write to the stream, or an index that has left the
            store.
    """
    config = config or ScoreConfig()
    found = all_output_scores(lease, store, config)
    whole = open_index(store, index.key)
    if whole is None:
        raise ValueError("The index was removed from the disk meanwhile; read the text again.")
    peaks = peak_tokens(whole, index.token_set)
    by_chance = shuffled_input_scores(peaks, found.own.tokens, seed=config.seed)
    known = by_chance[np.isfinite(by_chance)]
    return SteeringScores(
        input_score=input_scores(peaks, found.own.tokens),
        output=found.own,
        p=p_values(found.own.calibrated, found.null.calibrated),
        input_null=float(known.mean()) if len(known) else float("nan"),
        output_null=found.null.calibrated,
        authors_null=found.null.authors,
    )


def _made(lease: Lease, config: ScoreConfig) -> AllOutputScores:
    with lease.turn() as (_, (sae, *_rest)):
        d_sae = int(sae.cfg.d_sae)
    parts: list[OutputScores] = []
    null: list[OutputScores] = []

    def work(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        sae = saes[0]
        prompts = [LastPosition(model, sae, text) for text in config.prompts]
        chosen = range(first, min(last, d_sae))
        if len(chosen):
            rows = unit_writes(sae, chosen), residual_directions(model, sae, chosen)
            parts.append(scored(prompts, *rows, config, progress=lease.progress))
        if last > d_sae:
            some = slice(max(0, first - d_sae), last - d_sae)
            writes, directions = random_rows(model, sae, config)
            rows = writes[some], directions[some]
            null.append(scored(prompts, *rows, config, progress=lease.progress))

    total = d_sae + config.n_random
    lease.in_turns(total, work, unit="latents", message="Scoring latents", step=_STEP)
    return AllOutputScores(_joined(parts), _joined(null))


def _joined(parts: list[OutputScores]) -> OutputScores:
    names = ("authors", "calibrated", "strength", "tokens")
    return OutputScores(*(np.concatenate([getattr(it, name) for it in parts]) for name in names))
