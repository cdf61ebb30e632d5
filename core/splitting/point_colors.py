"""The number by which each point of the map is coloured, and the scale that goes with it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.splitting.hover import as_label
from core.splitting.palette import Palette, bands, with_missing

_MISSING_BAND = 0.04
_TITLES = {
    "frequency": "share of tokens<br>it fires on",
    "similarity": "cosine similarity",
}


@dataclass(frozen=True)
class PointColors:
    """How points are coloured."""

    n_points: int
    """How many there are."""
    values: Float[np.ndarray, " n"] | None = None
    """What the colour axis shows of each, float32; None where colours are those of the SAEs."""
    axis: dict[str, object] | None = None
    """Plotly's colour axis for the values."""
    notes: tuple[str, ...] = ()
    """What a reader should know about the colours."""

    def drawing_order(self) -> Int[np.ndarray, " n"]:
        """Row numbers in the order in which to draw: high values last, so that they lie on top."""
        if self.values is None:
            return np.arange(self.n_points)
        return np.argsort(self.values, kind="stable")


def point_colors(
    points: pd.DataFrame,
    colour: str,
    values: pd.Series | np.ndarray | None,
    colors: Palette,
) -> PointColors:
    """Colours for `points`, as `map_figure` describes `colour` and `values`.

    Raises:
        ValueError: no value, or not one for each point.
    """
    if colour == "width":
        return PointColors(len(points))
    if colour == "cluster":
        return _by_cluster(points["cluster"].to_numpy(), colors)
    if values is None or len(values) != len(points):
        raise ValueError(
            f"To colour by {colour}, give a value for each of the {len(points)} points "
            f"(NaN where it is not known), not {'none' if values is None else len(values)}."
        )
    numbers = np.asarray(values, dtype=np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if colour == "frequency":
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = np.where(numbers > 0, np.log10(numbers), np.nan)
    return _by_value(numbers, colour, colors)


def _by_cluster(clusters: np.ndarray, colors: Palette) -> PointColors:
    n = len(colors.clusters)
    # Noise is the first band; neighbouring clusters have neighbouring numbers, so turns do well.
    band = np.where(clusters < 0, 0, clusters % n + 1).astype(np.float32) + 0.5
    axis = {
        "cmin": 0,
        "cmax": n + 1,
        "colorscale": bands((colors.missing, *colors.clusters)),
        "showscale": False,
    }
    n_clusters = len(np.unique(clusters[clusters >= 0]))
    notes = [
        f"{n_clusters:,} clusters; {np.mean(clusters < 0):.0%} of the points are noise (grey)."
    ]
    if n_clusters > n:
        notes.append(f"{n} colours take turns, so two clusters far apart may share one.")
    return PointColors(len(clusters), band, axis, tuple(notes))


def _by_value(numbers: Float[np.ndarray, " n"], colour: str, colors: Palette) -> PointColors:
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if colour == "similarity":
        low = min(0.0, low)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    n_missing = len(numbers) - len(known)
    band = _MISSING_BAND if n_missing else 0.0
    # The band for missing values lies below the lowest known one, on the same axis.
    bottom = low - (high - low) * band / (1 - band)
    ticks = _ticks(low, high, colour)
    ticks_at, ticks_text = list(ticks), list(ticks.values())
    if n_missing:
        ticks_at.insert(0, (bottom + low) / 2)
        ticks_text.insert(0, "never" if colour == "frequency" else "not known")
    axis = {
        "cmin": bottom,
        "cmax": high,
        "colorscale": with_missing(colors, band),
        "colorbar": {
            "title": {"text": f"{_TITLES.get(colour, as_label(colour))}<br> ", "side": "top"},
            "thickness": 14,
            # Below the mode bar, which stands upright in the corner above.
            "len": 0.55,
            "y": 0.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "tickvals": ticks_at,
            "ticktext": ticks_text,
        },
    }
    values = np.where(np.isnan(numbers), bottom, numbers).astype(np.float32)
    notes = []
    if n_missing:
        reason = "no measured firing" if colour == "frequency" else f"no {colour}"
        notes.append(f"{n_missing:,} of {len(numbers):,} points have {reason} (grey).")
    return PointColors(len(numbers), values, axis, tuple(notes))


def _ticks(low: float, high: float, colour: str) -> dict[float, str]:
    """Some five positions on the scale, with what to write there."""
    if colour == "frequency":
        powers = np.arange(np.ceil(low), np.floor(high) + 1)
        if len(powers) < 2:
            powers = np.linspace(low, high, 3)
        return {float(power): f"{10**power:.3g}" for power in powers}
    return {float(value): f"{value:.3g}" for value in np.linspace(low, high, 5)}
