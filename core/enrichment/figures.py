"""Pairs of latents and sets of tokens as a table, and the charts of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from core.enrichment.run import EnrichmentFound
from core.enrichment.score import RunningSum
from core.plotly_text import escaped

COLOURS = {
    "how it is written": "#4c78a8",
    "words": "#e45756",
    "first letter": "#54a24b",
    "script": "#b279a2",
    "yours": "#ff8c00",
}
"""Colour of each group of sets."""
_CHOSEN = "#ff8c00"
_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000)
_MOST_RUGS = 4000


def pairs_table(
    found: EnrichmentFound, *, most: int, beyond: float | None, latent: int | None = None
) -> pd.DataFrame:
    """The `most` strongest pairs of latent and set, by p-value, then by score; of one latent, those
    first that the fewest random directions reach.

    `latent`, `set`, `group`, `size`, `score`, `log10_p`, `q`, `beyond` (share of random directions
    as far out). With `beyond`, only pairs that at most that share of random directions reach; with
    `latent`, only its own.
    """
    data, sets = found.all, found.found.sets
    usable = np.isfinite(data.log10_p)
    if beyond is not None:
        usable &= found.beyond <= beyond
    if latent is not None:
        only = np.zeros(len(usable), dtype=bool)
        only[latent] = True
        usable &= only[:, None]
    rows, columns = np.nonzero(usable)
    keys = [-np.abs(data.scores[rows, columns]), data.log10_p[rows, columns]]
    if latent is not None:
        keys.append(found.beyond[rows, columns])
    order = np.lexsort(keys)[:most]
    rows, columns = rows[order], columns[order]
    named = list(sets)
    return pd.DataFrame(
        {
            "latent": rows,
            "set": [named[column].name for column in columns],
            "group": [named[column].group for column in columns],
            "size": [len(named[column].ids) for column in columns],
            "score": data.scores[rows, columns],
            "log10_p": data.log10_p[rows, columns],
            "q": data.q[rows, columns],
            "beyond": found.beyond[rows, columns],
        }
    )


def manhattan(pairs: pd.DataFrame, *, n_latents: int, chosen: int) -> go.Figure:
    """Pairs of latent and set by p-value, above the middle where the set is pushed up and below
    where it is pushed down; `customdata` is (latent, name of the set)."""
    figure = go.Figure()
    height = _height(pairs)
    for group, rows in pairs.groupby("group", sort=False):
        marks = rows.index.to_numpy()
        figure.add_scattergl(
            x=rows["latent"],
            y=height[marks],
            mode="markers",
            name=str(group),
            marker={"size": 5, "opacity": 0.7, "color": COLOURS.get(str(group), "#8c8c8c")},
            customdata=rows[["latent", "set"]].to_numpy(dtype=object),
            hovertext=_hover(rows),
            hoverinfo="text",
        )
    own = pairs.index[pairs["latent"] == chosen].to_numpy()
    if len(own):
        rows = pairs.loc[own]
        figure.add_scattergl(
            x=rows["latent"],
            y=height[own],
            mode="markers",
            name="the chosen latent",
            marker={"size": 11, "symbol": "circle-open", "color": _CHOSEN, "line": {"width": 2}},
            customdata=rows[["latent", "set"]].to_numpy(dtype=object),
            hovertext=_hover(rows),
            hoverinfo="text",
        )
    top = float(np.abs(height).max()) if len(height) else 1.0
    ticks = [0, *(tick for tick in _TICKS if _lift(tick) <= top * 1.02)]
    both = [-tick for tick in ticks[:0:-1]] + ticks
    figure.update_layout(
        height=480,
        margin={"l": 64, "r": 16, "t": 40, "b": 48},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "itemsizing": "constant",
        },
        hoverlabel={"align": "left"},
        dragmode="pan",
    )
    figure.update_xaxes(title_text="latent", range=[-0.01 * n_latents - 1, 1.01 * n_latents])
    figure.update_yaxes(
        title_text="pushed down   ←   −log₁₀ p   →   pushed up",
        tickvals=[np.sign(tick) * _lift(abs(tick)) for tick in both],
        ticktext=[f"{abs(tick):,}" for tick in both],
        zeroline=True,
    )
    return figure


def running_sum_figure(curve: RunningSum, tokens: Sequence[str], *, n_tokens: int) -> go.Figure:
    """The running sum over all tokens, with a mark for each token of the set.

    `tokens` are the texts of `curve.ids`, fit to be seen.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        line={"color": COLOURS["how it is written"], "width": 2},
        fill="tozeroy",
        fillcolor="rgba(76,120,168,.15)",
        hovertemplate="rank %{x:,}: %{y:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=[curve.peak],
        y=[curve.score],
        mode="markers",
        marker={"size": 9, "color": _CHOSEN},
        hovertext=f"score {curve.score:+.3f}, at rank {curve.peak:,}",
        hoverinfo="text",
    )
    step = max(1, -(-len(curve.ranks) // _MOST_RUGS))
    low = min(float(np.min(curve.y)), 0.0)
    span = max(float(np.max(curve.y)), 0.0) - low or 1.0
    figure.add_scattergl(
        x=curve.ranks[::step] + 1,
        y=np.full(len(curve.ranks[::step]), low - 0.1 * span),
        mode="markers",
        marker={
            "symbol": "line-ns-open",
            "size": 14,
            "color": "rgba(128,128,128,.6)",
            "line": {"width": 1},
        },
        hovertext=[
            f"{escaped(token)}, rank {rank + 1:,}"
            for token, rank in zip(tokens[::step], curve.ranks[::step], strict=True)
        ],
        hoverinfo="text",
    )
    figure.update_layout(
        height=300, margin={"l": 60, "r": 16, "t": 12, "b": 48}, showlegend=False, dragmode=False
    )
    figure.update_xaxes(
        title_text=f"all {n_tokens:,} tokens, the most pushed up on the left", fixedrange=True
    )
    figure.update_yaxes(title_text="running sum", fixedrange=True)
    return figure


def _height(pairs: pd.DataFrame) -> Float[np.ndarray, " n"]:
    lifted = _lift(-pairs["log10_p"].to_numpy(dtype=np.float64))
    return np.where(pairs["score"].to_numpy() >= 0, lifted, -lifted)


def _lift(value: "Float[np.ndarray, ' n'] | float") -> "Float[np.ndarray, ' n']":
    # From 1e-2 to 1e-3000 on one axis.
    return np.log10(1 + np.asarray(value, dtype=np.float64))


def _hover(rows: pd.DataFrame) -> list[str]:
    return [
        f"<b>Latent {pair.latent}</b>: {escaped(pair.set)} ({pair.size:,} tokens)<br>"
        f"score {pair.score:+.3f}, p = 10^{pair.log10_p:.1f}<br>"
        f"{pair.beyond:.1%} of random directions are as far out"
        for pair in rows.itertuples()
    ]
