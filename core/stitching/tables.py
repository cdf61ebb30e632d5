"""A pair of SAEs as tables."""

import numpy as np
import pandas as pd

from core.stitching.curve import Curve
from core.stitching.result import Stitching

KINDS = {-1: "novel", 0: "undecided", 1: "reconstruction"}
"""What a latent is, by the sign of its change where that is certain at 95 %."""


def latent_table(found: Stitching) -> pd.DataFrame:
    """A row for each latent of the wide SAE, those that lower the narrow SAE's error most first.

    Returns:
        `latent`; `delta` (change of the mean squared error) with `low` and `high` (95 %);
        `share` (`delta` as a share of the narrow SAE's error); `kind` ("novel", "reconstruction",
        "undecided", or "too rare" for fewer firings than are needed); `cosine` and `match`, the
        nearest row of the narrow SAE; `firings`; `null_delta` (with errors of other positions).
    """
    deltas = found.deltas
    kind = np.array([KINDS[int(it)] for it in deltas.surely()], dtype=object)
    kind[~found.told] = "too rare"
    table = pd.DataFrame(
        {
            "latent": np.arange(len(deltas.delta)),
            "delta": deltas.delta,
            "low": deltas.delta - 1.96 * deltas.spread,
            "high": deltas.delta + 1.96 * deltas.spread,
            "share": deltas.delta / deltas.narrow_error if deltas.narrow_error else np.nan,
            "kind": kind,
            "cosine": found.cosine,
            "match": found.match,
            "firings": deltas.firings,
            "null_delta": deltas.shuffled,
        }
    )
    return table.sort_values("delta", kind="stable", ignore_index=True)


def curve_table(curve: Curve) -> pd.DataFrame:
    """A row for each step: latents of the wide SAE `added` and of the narrow SAE `kept`, `error`
    (mean squared) with `low` and `high`, `l0`, `random_error` (the null), and where it was measured
    `loss` with `loss_low` and `loss_high`."""
    table = pd.DataFrame(
        {
            "added": curve.added,
            "kept": curve.kept,
            "error": curve.error[:, 0],
            "low": curve.error[:, 1],
            "high": curve.error[:, 2],
            "l0": curve.l0,
            "random_error": curve.random_error,
        }
    )
    if curve.loss is not None:
        for number, name in enumerate(("loss", "loss_low", "loss_high")):
            table[name] = curve.loss[:, number]
    return table
