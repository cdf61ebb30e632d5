"""Does a latent do more to the model than random directions of the same norms do?

No fixed threshold can tell: how decided a model is, and how sure of its texts, differs between
models, layers and prompts. Random directions, put in at the same layers and scales, give the scale.

Three measures count, each over all layers and scales, so that one lucky scale decides nothing: how
decided the model is about its next token, how likely its texts are, and how far the texts at
different scales agree. Their standard scores among the random directions are added up. The largest
self-similarity is told as well but does not count: on the demo it is as high for random directions
as for latents that are read right, whatever the layer.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from core.patch_scoping.reading import unigram_f1

Name = str | int
"""What names a direction in the tables: a latent's number, or a control's name."""
Verdict = Literal["stands out", "unclear", "unexplainable"]
LEVEL = 0.05
"""Probability with which a random direction may be taken for a latent that stands out."""
UNEXPLAINABLE = 0.25
"""A latent is unexplainable when more than this share of directions has as much evidence."""
DEFAULT_CONTROLS = 40
"""Random directions: enough for `LEVEL` with one of them as an exception."""
MEASURES = {"entropy": -1, "log_prob": 1, "agreement": 1}
"""Measures that count, and whether high (1) or low (-1) ones speak for a latent."""
_HIGHEST = 3.0
_MOST_TEXTS = 60


@dataclass(frozen=True)
class NullComparison:
    """One latent against the random directions, at all layers and scales of a sweep."""

    p: float
    """Share of directions, this latent counted in, with as much evidence."""
    verdict: Verdict
    """"stands out" up to `LEVEL`, "unexplainable" above `UNEXPLAINABLE`, "unclear" between."""
    entropy: float
    """Mean next-token entropy, in nats."""
    control_entropy: float
    """Mean of the same over the random directions."""
    log_prob: float
    """Mean log-probability of the texts as wholes, in nats."""
    control_log_prob: float
    """Mean of the same over the random directions."""
    agreement: float
    """Mean word overlap (unigram F1) of two texts at different scales of one layer."""
    control_agreement: float
    """Mean of the same over the random directions."""
    rise: float
    """Largest self-similarity, less that with nothing injected."""
    control_rise: float
    """Mean of the same over the random directions."""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        figures = (
            f"{self.p:.0%} of directions speak as clearly (next-token entropy {self.entropy:.2f} "
            f"nats, random directions {self.control_entropy:.2f}; log-probability of the texts "
            f"{self.log_prob:.1f} against {self.control_log_prob:.1f}; agreement of the texts "
            f"{self.agreement:.2f} against {self.control_agreement:.2f})"
        )
        if self.verdict == "stands out":
            return f"The latent stands out: {figures}."
        if self.verdict == "unclear":
            return f"Whether the latent stands out is unclear: {figures}."
        return f"Unexplainable here, whatever the text says: {figures}."


def clarity_measures(table: pd.DataFrame) -> pd.DataFrame:
    """The measures of each latent of a sweep's table that holds one prompt; a row a latent.

    Columns: `entropy`, `log_prob`, `agreement` and `rise`, as in `NullComparison`. Only the first
    sample of each layer and scale counts.
    """
    first = table[table["sample"] == 0]
    rows = {}
    for latent, part in first.groupby("latent", sort=False):
        # A text may well change from one layer to another, but not with the scale alone.
        by_layer = [layer["answer"].astype(str) for _, layer in part.groupby("layer")]
        rows[latent] = {
            "entropy": float(part["entropy"].mean()),
            "log_prob": float((part["mean_log_prob"] * part["n_tokens"]).mean()),
            "agreement": float(np.mean([mean_overlap(list(answers)) for answers in by_layer])),
            "rise": float((part["self_similarity"] - part["resting"]).max()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def mean_overlap(texts: list[str]) -> float:
    """Mean word overlap (unigram F1) of two different ones of the texts; 0 for fewer than two.

    Of more than 60 texts, 60 at even steps stand for all.
    """
    if len(texts) > _MOST_TEXTS:
        steps = np.linspace(0, len(texts) - 1, _MOST_TEXTS).round().astype(int)
        texts = [texts[step] for step in steps]
    pairs = list(itertools.combinations(texts, 2))
    return sum(unigram_f1(a, b) for a, b in pairs) / len(pairs) if pairs else 0.0


def compare_with_null(
    table: pd.DataFrame, controls: pd.DataFrame, *, level: float = LEVEL
) -> dict[Name, NullComparison]:
    """Each latent of a sweep's table against the directions of `controls`.

    Both hold one prompt; latents are judged at the layers and scales that the controls have.

    Raises:
        ValueError: a layer or scale of the controls that the table lacks, or too few controls for
            `level`.
    """
    rivals = clarity_measures(controls)
    n = len(rivals)
    if n < fewest_controls(level):
        raise ValueError(
            f"{n} controls cannot reach level {level}; use {fewest_controls(level)} or more."
        )
    latents = clarity_measures(_alike(table, controls))
    names = list(MEASURES)
    signs = np.array([MEASURES[name] for name in names], float)
    middle, spread = rivals[names].to_numpy().mean(0), rivals[names].to_numpy().std(0, ddof=1)
    # A measure that does not vary (agreement, with one scale) tells nothing.
    spread = np.where(spread > 1e-9, spread, np.inf)

    def clearness(measures: pd.DataFrame) -> np.ndarray:
        scores = signs * (measures[names].to_numpy() - middle) / spread
        # No measure alone outweighs the two others.
        return np.clip(scores, -_HIGHEST, _HIGHEST).sum(1)

    own, others = clearness(latents), clearness(rivals)
    means = {f"control_{name}": float(rivals[name].mean()) for name in rivals}
    found: dict[Name, NullComparison] = {}
    for score, (latent, row) in zip(own, latents.iterrows(), strict=True):
        p = (1 + int((others >= score - 1e-9).sum())) / (n + 1)
        verdict = verdict_of(p, level)
        found[latent] = NullComparison(p=p, verdict=verdict, **row.to_dict(), **means)
    return found


def verdict_of(p: float, level: float = LEVEL) -> Verdict:
    """What a share of random directions with as much evidence amounts to."""
    if p <= level:
        return "stands out"
    return "unexplainable" if p > UNEXPLAINABLE else "unclear"


def fewest_controls(level: float = LEVEL) -> int:
    """How many random directions the level takes: the smallest p is 1/(n + 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; use a probability between 0 and 1.")
    return int(np.ceil(1 / level - 1e-9)) - 1


def _alike(table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table at the layers and scales of the controls."""

    def places(some: pd.DataFrame) -> pd.Series:
        # Rounded: the typical norm, measured twice, may differ in its last digits.
        scales = some["scale"].map(lambda scale: float(f"{scale:.4g}"))
        return pd.Series(list(zip(some["layer"], scales, strict=True)), index=some.index)

    wanted, there = set(places(controls)), places(table)
    if not wanted <= set(there):
        raise ValueError(
            "Latents and controls were swept at different layers or scales; sweep them alike."
        )
    return table[there.isin(wanted)]
