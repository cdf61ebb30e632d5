"""The charts of the quality of SAEs; nulls are grey."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.plotly_style import small_bars
from core.sae_quality.geometry import Geometry
from core.sae_quality.text_figures import TextFigures

ORANGE, BLUE, GREY, LIGHT = "#ff8c00", "#4c78a8", "#8c8c8c", "#bdbdbd"
_HEIGHT = 240
_BINS = 40
COMPARED = {
    "explained_variance": "Variance explained",
    "l0": "Active latents a token (L0)",
    "loss_recovered_mean": "Loss recovered, mean as the floor",
    "loss_recovered_zero": "Loss recovered, zeros as the floor",
    "kl": "KL divergence of predictions (nats)",
    "dead_fraction": "Share of dead latents",
    "dense_fraction": "Share of dense latents",
    "neighbour_cosine_median": "Median cosine with the nearest row",
    "encoder_cosine_median": "Median encoder–decoder cosine",
}
"""Figures that SAEs are compared by, and what they are called."""


def l0_figure(text: TextFigures) -> go.Figure:
    """How many tokens have how many active latents."""
    counts = text.l0_counts
    width = max(1, int(np.ceil(len(counts) / 80)))
    padded = np.pad(counts, (0, -len(counts) % width)).reshape(-1, width).sum(1)
    bars = go.Bar(
        x=np.arange(len(padded)) * width + (width - 1) / 2,
        y=padded,
        width=width,
        marker_color=BLUE,
        hovertemplate="%{x:.0f} latents: %{y:,} tokens<extra></extra>",
    )
    return small_bars(go.Figure(bars), "active latents at a token", "tokens", height=_HEIGHT)


def position_figure(text: TextFigures) -> go.Figure:
    """Variance explained by position in the row."""
    edges, found = text.position_edges, text.position_explained
    shown = (text.position_tokens > 1) & np.isfinite(found[:, 0])
    names = [f"{low}" if high - low == 1 else f"{low}–{high - 1}" for low, high in pairwise(edges)]
    value = found[shown]
    line = go.Scatter(
        x=[name for name, keep in zip(names, shown, strict=True) if keep],
        y=value[:, 0],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": value[:, 2] - value[:, 0],
            "arrayminus": value[:, 0] - value[:, 1],
        },
        mode="lines+markers",
        marker_color=BLUE,
        customdata=text.position_tokens[shown],
        hovertemplate="position %{x}: %{y:.1%} of %{customdata:,} tokens<extra></extra>",
    )
    figure = small_bars(
        go.Figure(line), "position in the row", "variance explained", height=_HEIGHT
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%")
    return figure


def rate_figure(text: TextFigures) -> go.Figure:
    """How many latents fire how often, on a logarithmic axis."""
    rates = text.rates[text.firings > 0]
    edges = np.linspace(np.log10(1 / text.n_tokens) - 0.05, 0.05, _BINS + 1)
    counts = np.histogram(np.log10(rates), edges)[0]
    bars = go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges) * 0.94,
        marker_color=BLUE,
        hovertext=[
            f"active on {10**a:.2g} to {10**b:.2g} of tokens: {n:,} latents"
            for a, b, n in zip(edges, edges[1:], counts, strict=False)
        ],
        hoverinfo="text",
    )
    figure = small_bars(
        go.Figure(bars), "share of tokens at which a latent is active", "latents", height=_HEIGHT
    )
    ticks = list(range(int(np.floor(edges[0])), 1))
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{100 * 10.0**it:g}%" for it in ticks])
    figure.add_vline(x=-1, line_color=ORANGE, line_width=1.5)
    return figure


def norm_figure(geometry: Geometry) -> go.Figure:
    """Lengths of what a unit of each latent writes."""
    return _histograms([("latents", geometry.norms, BLUE)], "length of the decoder row")


def encoder_figure(geometry: Geometry) -> go.Figure | None:
    """Cosine of encoder and decoder of each latent, and of latents that were mixed up."""
    if geometry.encoder_cosine is None or geometry.encoder_null is None:
        return None
    parts = [
        ("rows of other latents", geometry.encoder_null, GREY),
        ("this SAE", geometry.encoder_cosine, BLUE),
    ]
    return _histograms(parts, "cosine of encoder and decoder")


def neighbour_figure(geometry: Geometry) -> go.Figure:
    """Cosine of each row with the nearest other, beside random rows."""
    parts = [
        ("random directions", geometry.neighbour_uniform, LIGHT),
        ("random rows, same covariance", geometry.neighbour_gaussian, GREY),
        ("this SAE", geometry.neighbour, BLUE),
    ]
    return _histograms(parts, "cosine with the nearest other row")


def compared_figure(
    table: pd.DataFrame, figure: str, *, by: str, chosen: str | None = None
) -> go.Figure:
    """One figure of several SAEs, a point each; what was published is hollow, the null grey.

    `table` is `quality_table`'s; `by` is its column across, `chosen` the name of an SAE to mark.
    The first trace has a point for every row of the table, in order.

    Raises:
        ValueError: a figure that the table does not have.
    """
    if figure not in table:
        raise ValueError(f"These SAEs have no {figure!r}; choose another figure.")
    x = table[by] if by in table else table["sae"]
    low = table.get(f"{figure}_low", pd.Series(np.nan, table.index))
    high = table.get(f"{figure}_high", pd.Series(np.nan, table.index))
    line = go.Scatter(
        x=x,
        y=table[figure],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (high - table[figure]).fillna(0),
            "arrayminus": (table[figure] - low).fillna(0),
        },
        mode="lines+markers",
        name="measured here",
        marker={
            "size": 11,
            "color": [ORANGE if name == chosen else BLUE for name in table["sae"]],
        },
        line_color=BLUE,
        customdata=table["sae"],
        hovertemplate="%{customdata}: %{y:.4g}<extra></extra>",
    )
    drawing = go.Figure(line)
    for column, name, look in (
        (f"{figure}_published", "published", {"color": BLUE, "size": 11, "symbol": "circle-open"}),
        (f"{figure}_null", "null", {"color": GREY, "size": 8, "symbol": "x"}),
    ):
        if column in table:
            drawing.add_scatter(x=x, y=table[column], mode="markers", name=name, marker=look)
    small_bars(
        drawing, "latents" if by == "latents" else by, COMPARED.get(figure, figure), height=_HEIGHT
    )
    drawing.update_layout(height=340, showlegend=True, legend={"orientation": "h", "y": 1.12})
    if by == "latents" and table["latents"].nunique() > 1:
        drawing.update_xaxes(type="log")
        ticks = sorted(set(table["latents"]))
        drawing.update_xaxes(tickvals=ticks, ticktext=[f"{it:,}" for it in ticks])
    else:
        drawing.update_xaxes(type="category")
    return drawing


def _histograms(parts: Sequence[tuple[str, np.ndarray, str]], x: str) -> go.Figure:
    """Shares of several samples in common bins, the last in front."""
    everything = np.concatenate([values[np.isfinite(values)] for _, values, _ in parts])
    low, high = (float(it) for it in np.quantile(everything, [0, 1]))
    pad = max(1e-3, 0.02 * (high - low))
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    drawing = go.Figure()
    for name, values, colour in parts:
        inside = values[np.isfinite(values)]
        counts = np.histogram(inside, edges)[0]
        drawing.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / max(1, len(inside)),
            width=np.diff(edges),
            name=f"{name} (n = {len(inside):,})",
            marker_color=colour,
            opacity=0.75,
            customdata=counts,
            hovertemplate=f"{name}, %{{x:.3f}}: %{{customdata:,}}<extra></extra>",
        )
    small_bars(drawing, x, "share of latents", height=_HEIGHT)
    drawing.update_layout(barmode="overlay")
    drawing.update_yaxes(tickformat=".0%")
    if len(parts) > 1:
        drawing.update_layout(
            height=_HEIGHT + 40,
            margin_t=60,
            showlegend=True,
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        )
    return drawing
