"""Very many points of a map in few bytes: 4 for the place, 1 for the colour, 6 for three tokens.

Places are whole numbers of 16 bits on the map's extent, much finer than a pixel; what is exact
(which latents lie inside of a selection) is found out where the map is. Points are in an order in
which any first part is spread over all rows, so that a browser that is short of time can draw a
part: number `i` is row `i * step % n`.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.colors
from jaxtyping import Float, Int, UInt8, UInt16

from core.splitting.colors import Palette, PointColors, width_colors

SHADES = 256
"""Colours that a map can have."""
_MOST_RUNS = 4096
_FINEST = 65_535
_HOVER_TOKENS, _TOKEN_LETTERS = 3, 24
"""Boosted tokens that stand under the mouse, and letters of each at most."""


@dataclass(frozen=True)
class PointTokens:
    """The tokens that each point boosts, for what stands under the mouse."""

    ids: Int[np.ndarray, "n k"]
    """The strongest first."""
    texts: Sequence[str]
    """Of each id."""


def packed_points(
    points: pd.DataFrame,
    coloring: PointColors,
    colors: Palette,
    names: Mapping[str, str],
    *,
    tokens: PointTokens | None = None,
) -> bytes:
    """Header, places and colours of `points`, as `pages/parts/splitting/point_map.js` reads them.

    Four bytes with the length of the header, the header (JSON, padded to a multiple of four), the
    places (`uint16` [n, 2]), the numbers of `tokens` in the header's list (`uint16`
    [n, `per_point`]; the first three, fewer where there are too many different ones), and the
    numbers of their colours (`uint8` [n]). `names` are what the SAEs are called, narrowest first.
    """
    n = len(points)
    xy = points[["umap_x", "umap_y"]].to_numpy(dtype=np.float64)
    low, high = (xy.min(axis=0), xy.max(axis=0)) if n else (np.zeros(2), np.ones(2))
    extent = np.where(high > low, high - low, 1.0)
    places = np.rint((xy - low) / extent * _FINEST).astype("<u2")
    shade, palette, legend = _shades(points, coloring, colors, names)
    step = spread_step(n)
    order = np.arange(n, dtype=np.int64) * step % max(n, 1)
    numbers, texts = _numbered(tokens)
    header = {
        "n": n,
        "step": step,
        "from": low.tolist(),
        "extent": extent.tolist(),
        "palette": palette,
        "legend": legend,
        "runs": _runs(points, names),
        "tokens": texts,
        "per_point": numbers.shape[1],
        # As on small maps: high values, and the points of narrow SAEs.
        "top": "low" if coloring.axis is None else "high",
        "ink": {
            "paper": colors.paper,
            "panel": colors.panel,
            "text": colors.text,
            "selected": colors.selected,
            "rings": list(colors.rings[:2]),
        },
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    length = np.array([len(text)], dtype="<u4").tobytes()
    under_mouse = numbers[order].tobytes() if texts else b""
    return b"".join([length, text, places[order].tobytes(), under_mouse, shade[order].tobytes()])


def spread_step(n: int) -> int:
    """A number without a common divisor with `n`, about 0.618 of it."""
    step = max(1, round(n * 0.618034))
    while math.gcd(step, n) > 1:
        step += 1
    return step


def row_bits(rows: Sequence[int] | Int[np.ndarray, " k"], n: int) -> bytes:
    """One bit for each of `n` rows, the lowest bit of a byte first; set for those in `rows`."""
    chosen = np.zeros(n, dtype=bool)
    chosen[np.asarray(rows, dtype=np.int64)] = True
    return np.packbits(chosen, bitorder="little").tobytes()


def _numbered(tokens: PointTokens | None) -> tuple[UInt16[np.ndarray, "n k"], list[str]]:
    """Each point's tokens as numbers in a list of those that occur, and the list."""
    if tokens is None:
        return np.empty((0, 0), dtype="<u2"), []
    for k in range(min(_HOVER_TOKENS, tokens.ids.shape[1]), 0, -1):
        ids, is_used = tokens.ids[:, :k], np.zeros(len(tokens.texts), dtype=bool)
        is_used[ids] = True
        used = np.flatnonzero(is_used).tolist()
        if len(used) <= 1 << 16:
            number = np.cumsum(is_used) - 1
            return number[ids].astype("<u2"), [tokens.texts[it][:_TOKEN_LETTERS] for it in used]
    return np.empty((0, 0), dtype="<u2"), []


def _shades(
    points: pd.DataFrame, coloring: PointColors, colors: Palette, names: Mapping[str, str]
) -> tuple[UInt8[np.ndarray, " n"], list[list[int]], list[dict[str, Any]]]:
    """The colour's number for each point, the colours, and what they mean."""
    if coloring.values is None or coloring.axis is None:
        labels = list(names)
        found = width_colors(len(labels), colors)
        position = {label: rank for rank, label in enumerate(labels)}
        ranks = points["sae"].map(position).to_numpy(dtype=np.int64)
        legend = [
            {"text": names[label], "color": _css(color)}
            for label, color in zip(labels, found, strict=True)
        ]
        # More SAEs than colours cannot be: they are as many as there are.
        return (ranks % SHADES).astype(np.uint8), [_rgb(color) for color in found], legend
    low, high = _range(coloring.axis)
    share = (coloring.values.astype(np.float64) - low) / (high - low)
    shade = np.clip(np.floor(share * SHADES), 0, SHADES - 1).astype(np.uint8)
    scale: Any = coloring.axis["colorscale"]
    middles = (np.arange(SHADES) + 0.5) / SHADES
    return shade, [_rgb(_at(scale, place)) for place in middles], _ticks(coloring.axis)


def _range(axis: Mapping[str, Any]) -> tuple[float, float]:
    return float(axis["cmin"]), float(axis["cmax"])


def _ticks(axis: Mapping[str, Any]) -> list[dict[str, Any]]:
    bar = axis.get("colorbar")
    if not bar:
        return []
    low, high = _range(axis)
    found: list[dict[str, Any]] = [{"text": bar["title"]["text"].replace("<br>", " ").strip()}]
    for value, text in zip(bar["tickvals"], bar["ticktext"], strict=True):
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        found.append({"text": text, "color": _css(_at(axis["colorscale"], share))})
    return found


def _at(scale: Sequence[tuple[float, str]], place: float) -> str:
    """The colour at a place of a scale, whose colours may change at once."""
    for (start, first), (end, last) in itertools.pairwise(scale):
        if start <= place <= end and end > start:
            a, b = _numbers(first), _numbers(last)
            share = (place - start) / (end - start)
            mixed = [x + (y - x) * share for x, y in zip(a, b, strict=True)]
            return f"rgb({','.join(str(round(value)) for value in mixed)})"
    return scale[-1][1]


def _numbers(color: str) -> Float[np.ndarray, " 3"]:
    if color.startswith("#"):
        return np.array(plotly.colors.hex_to_rgb(color), dtype=np.float64)
    return np.array(plotly.colors.unlabel_rgb(color), dtype=np.float64)


def _rgb(color: str) -> list[int]:
    return [round(float(value)) for value in _numbers(color)]


def _css(color: str) -> str:
    return f"rgb({','.join(map(str, _rgb(color)))})"


def _runs(points: pd.DataFrame, names: Mapping[str, str]) -> list[list[Any]]:
    """Where rows follow one another as latents do: first row, SAE and first latent of each run.

    None where there would be too many to send: points then have no name under the mouse.
    """
    latents = points["latent_idx"].to_numpy()
    saes = points["sae"].cat.codes.to_numpy()
    breaks = np.flatnonzero((np.diff(latents) != 1) | (np.diff(saes) != 0)) + 1
    if len(breaks) > _MOST_RUNS or not len(points):
        return []
    labels = points["sae"].cat.categories
    return [
        [int(row), names[labels[saes[row]]], int(latents[row])]
        for row in np.concatenate([[0], breaks])
    ]
