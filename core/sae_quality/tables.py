"""Figures of quality as tables: one SAE in lines, several SAEs a line each."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.catalog.entries import SaeEntry
from core.fit_check.sums import Figure
from core.sae_quality.result import Quality

PUBLISHED = {
    "l0": "l0",
    "explained_variance": "explained_variance",
    "loss_recovered_zero": "loss_recovered",
    "dead_fraction": "dead_fraction",
}
"""Figures that publishers give, and the fields of `SaeEntry` that hold them."""


def quality_lines(quality: Quality, published: SaeEntry | None = None) -> pd.DataFrame:
    """A line for each figure of one SAE.

    Returns:
        `figure` (its name), `value`, `low`, `high` (95 % interval; NaN without), `null` (what the
        control reaches; NaN without), `null_is` (what that control is), `published` (NaN where the
        publisher does not say) and `n` (what `value` rests on, with its unit in `unit`).
    """
    text, loss, geometry = quality.text, quality.loss, quality.geometry
    lines: list[dict[str, object]] = []

    def add(
        name: str, value: Figure | float, n: int, unit: str, null: object = None, is_: str = ""
    ) -> None:
        figure = value if isinstance(value, Figure) else Figure(value, np.nan, np.nan)
        said = getattr(published, PUBLISHED.get(name, ""), None) if published else None
        lines.append(
            {
                "figure": name,
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "null": np.nan if null is None else null,
                "null_is": is_,
                "published": np.nan if said is None else said,
                "n": n,
                "unit": unit,
            }
        )

    n = text.n_tokens
    add("l0", text.l0, n, "tokens")
    random = "as many random directions, as many of them active"
    add(
        "explained_variance", text.explained_variance, n, "tokens", quality.random_explained, random
    )
    if loss is not None:
        m = loss.n_tokens
        add("loss_recovered_zero", loss.recovered_zero, m, "predictions", 0.0, "zeros in its place")
        add("loss_recovered_mean", loss.recovered_mean, m, "predictions", 0.0, "the mean")
        add("kl", loss.kl_sae, m, "predictions", loss.kl_mean.value, "the mean in its place")
        add("loss_with_sae", loss.sae, m, "predictions", loss.mean.value, "the mean in its place")
        add("loss_with_zeros", loss.zero, m, "predictions")
        add("loss_of_model", loss.model, m, "predictions")
    add("dead_fraction", text.dead_fraction, quality.d_sae, "latents")
    add("dead_on_twice_the_text", text.dead_on_twice_the_text, quality.d_sae, "latents")
    add("dense_fraction", text.dense_fraction(), quality.d_sae, "latents")
    add("decoder_norm_median", float(np.median(geometry.norms)), quality.d_sae, "latents")
    if geometry.encoder_cosine is not None and geometry.encoder_null is not None:
        own = float(np.median(geometry.encoder_cosine))
        null = float(np.median(geometry.encoder_null))
        many = len(geometry.encoder_cosine)
        add("encoder_cosine_median", own, many, "latents", null, "rows of other latents")
    add(
        "neighbour_cosine_median",
        float(np.median(geometry.neighbour)),
        len(geometry.neighbour),
        "latents",
        float(np.median(geometry.neighbour_gaussian)),
        "random rows of the same covariance",
    )
    return pd.DataFrame(lines)


def quality_table(
    found: Mapping[str, Quality], published: Mapping[str, SaeEntry] | None = None
) -> pd.DataFrame:
    """A row for each SAE, with `sae` (its name) and `latents`, `site`, and for every figure of
    `quality_lines` columns `figure`, `figure_low`, `figure_high`, `figure_null`, `figure_n` and
    `figure_published`; columns without any number are left out."""
    rows = []
    for name, quality in found.items():
        entry = (published or {}).get(name)
        row: dict[str, object] = {
            "sae": name,
            "latents": quality.d_sae,
            "site": quality.hook_out,
        }
        for line in quality_lines(quality, entry).to_dict("records"):
            figure = str(line["figure"])
            row[figure] = line["value"]
            for part in ("low", "high", "null", "n", "published"):
                row[f"{figure}_{part}"] = line[part]
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def latent_table(quality: Quality) -> pd.DataFrame:
    """A row for each latent: `latent`, `firings`, `rate` (share of positions), `norm` (length of
    what a unit of it writes)."""
    return pd.DataFrame(
        {
            "latent": np.arange(quality.d_sae),
            "firings": quality.text.firings,
            "rate": quality.text.rates,
            "norm": quality.geometry.norms,
        }
    )
