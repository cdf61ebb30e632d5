"""Absorption as tables."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from core.absorption.found import AbsorptionFound
from core.absorption.result import ConceptResult


def concept_table(results: Sequence[ConceptResult]) -> pd.DataFrame:
    """A row for each concept, those that the model has first: `concept`, `group`, `represented`,
    `probe_f1`, `probe_auroc`, `mains` and `splits` (how many they are), `fires_on` (share of the
    probe's true positives at which one of them fires), `full` and `fraction` with 95 % intervals
    and what the nulls reach, `hedging`, `n` (true positives), `tokens`."""
    table = pd.DataFrame(list(_rows(results)))
    return table.sort_values(
        ["represented", "full"], ascending=False, kind="stable", ignore_index=True
    )


def width_table(found: Mapping[str, AbsorptionFound]) -> pd.DataFrame:
    """A row for each SAE: `sae`, `latents`, `l0`, and over the concepts that the model has in all
    of them the means of `full`, `fraction`, `splits`, `shuffled`, `random_sae` and
    `random_direction` (full absorption of the nulls), with `full_low` and `full_high` (95 %, by
    drawing concepts), and how many `concepts` there are."""
    names = [{it.name for it in one.represented} for one in found.values()]
    common = sorted(set.intersection(*names)) if names else []
    rows = []
    for name, one in found.items():
        some = [it for it in one.results if it.name in common]
        full = np.array([it.full.value for it in some])
        draws = np.random.default_rng(0).integers(0, max(1, len(full)), (400, len(full)))
        means = full[draws].mean(1) if len(full) else np.array([np.nan])
        rows.append(
            {
                "sae": name,
                "latents": one.d_sae,
                "l0": one.l0,
                "full": _mean([it.full.value for it in some]),
                "full_low": float(np.quantile(means, 0.025)),
                "full_high": float(np.quantile(means, 0.975)),
                "fraction": _mean([it.fraction.value for it in some]),
                "splits": _mean([float(len(it.mains)) for it in some]),
                "shuffled": _mean([it.shuffled.full for it in some]),
                "random_sae": _mean([it.random_sae.full for it in some]),
                "random_direction": _mean([it.random_direction.full for it in some]),
                "concepts": len(some),
            }
        )
    return pd.DataFrame(rows)


def _mean(values: list[float]) -> float:
    finite = [it for it in values if np.isfinite(it)]
    return float(np.mean(finite)) if finite else float("nan")


def _rows(results: Sequence[ConceptResult]) -> Iterator[dict[str, object]]:
    for it in results:
        yield {
            "concept": it.name,
            "group": it.group,
            "represented": it.represented,
            "probe_f1": it.f1,
            "probe_auroc": it.auroc,
            "mains": " ".join(map(str, it.mains)),
            "splits": len(it.mains),
            "fires_on": it.recall,
            "full": it.full.value,
            "full_low": it.full.low,
            "full_high": it.full.high,
            "shuffled_f1": it.shuffled_f1,
            "full_shuffled": it.shuffled.full,
            "full_random_sae": it.random_sae.full,
            "full_random_direction": it.random_direction.full,
            "fraction": it.fraction.value,
            "fraction_low": it.fraction.low,
            "fraction_high": it.fraction.high,
            "fraction_shuffled": it.shuffled.fraction,
            "fraction_random_sae": it.random_sae.fraction,
            "fraction_random_direction": it.random_direction.fraction,
            "hedging": it.hedging,
            "n": it.n_hits,
            "tokens": it.n_tokens,
        }
