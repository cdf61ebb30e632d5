"""Plotly figures of scale tuning, and of scale against layer."""

import html
import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from core.patch_scoping.scale_ranking import is_long_range

MEASURES = {
    "self_similarity": "Self-similarity",
    "entropy": "Next-token entropy (nats)",
    "cross_entropy": "Cross-entropy (nats)",
    "score": "Combined score",
    "mean_log_prob": "Mean log-probability (nats)",
}
"""Columns of a sweep that can be drawn, with their titles."""

_SHORT = {"entropy": "Entropy", "cross_entropy": "Cross-entropy", "score": "Score"}
_POINTS_A_SEGMENT = 9
_HEIGHT = 400


def taylor_segments(
    table: pd.DataFrame, order: int
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The Taylor polynomial of the self-similarity through each point, half a step to each side.

    `order` is 1 or 2. Segments follow each other with a NaN in between, as plotly draws them.

    Raises:
        ValueError: another order, or a table without derivatives.
    """
    if order not in (1, 2):
        raise ValueError(f"order is {order}; use 1 or 2.")
    ordered = table.sort_values("scale")
    scale, value, first, second = (
        ordered[name].to_numpy(float)
        for name in ("scale", "self_similarity", "first_derivative", "second_derivative")
    )
    if np.isnan(first).any():
        raise ValueError("The table has no derivatives; use scale_tuning(derivatives=True).")
    gaps = np.diff(scale) if len(scale) > 1 else np.ones(1)
    before, after = np.append(gaps[0], gaps) / 2, np.append(gaps, gaps[-1]) / 2
    n = _POINTS_A_SEGMENT if order == 2 else 3
    step = np.linspace(-before, after, n, axis=1)
    curve = value[:, None] + first[:, None] * step
    if order == 2:
        curve = curve + second[:, None] * step**2 / 2
    x = np.pad(scale[:, None] + step, ((0, 0), (0, 1)), constant_values=np.nan)
    y = np.pad(curve, ((0, 0), (0, 1)), constant_values=np.nan)
    return x.ravel(), y.ravel()


def scale_tuning_figure(
    table: pd.DataFrame, *, title: str | None = None, dark: bool = False
) -> go.Figure:
    """Self-similarity over scale: points, and first- and second-order segments through them.

    `table` is that of `scale_tuning`; without derivatives only the points are drawn. Where it is
    ranked, the best scales are marked.
    """
    if table.empty:
        raise ValueError("There is nothing to draw: the table has no scales.")
    figure = go.Figure()
    if not table["first_derivative"].isna().any():
        for order, name, colour in ((1, "first order", "#d62728"), (2, "second order", "#1f77b4")):
            x, y = taylor_segments(table, order)
            line = {"color": colour, "width": 2}
            figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")
    best = table["best"].to_numpy(bool) if "best" in table else np.zeros(len(table), bool)
    figure.add_scatter(
        x=table["scale"],
        y=table["self_similarity"],
        mode="markers",
        name="self-similarity",
        marker={
            "size": np.where(best, 12, 8),
            "symbol": np.where(best, "star", "circle"),
            "color": "white" if dark else "black",
        },
        customdata=table[["entropy", "cross_entropy"]],
        hovertemplate="scale %{x:.4g}<br>self-similarity %{y:.4f}<br>entropy %{customdata[0]:.3f}"
        "<br>cross-entropy %{customdata[1]:.3f}<extra></extra>",
    )
    figure.update_layout(
        title={"text": html.escape(title) if title else None},
        xaxis_title="Scale (norm of the injected vector)",
        yaxis_title=MEASURES["self_similarity"],
        template="plotly_dark" if dark else "plotly_white",
        height=_HEIGHT,
        margin={"t": 50 if title else 30, "r": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    # Far from its point a segment may lead anywhere; the points say what is to be seen.
    low, high = table["self_similarity"].min(), table["self_similarity"].max()
    margin = max(0.2 * (high - low), 1e-4)
    figure.update_yaxes(range=[low - margin, high + margin])
    figure.update_xaxes(type=_axis_type(table))
    return figure


def _axis_type(table: pd.DataFrame) -> str:
    return "log" if is_long_range(table["scale"].to_numpy()) else "linear"


def reactions_figure(table: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Entropy, cross-entropy and combined score over the scale, below one another.

    `table` is that of `scale_tuning`, ranked by `rank_scales`.
    """
    if table.empty or "score" not in table:
        raise ValueError("There is nothing to draw: give a table of scales with their scores.")
    names = ("entropy", "cross_entropy", "score")
    ordered = table.sort_values("scale")
    figure = make_subplots(rows=len(names), shared_xaxes=True, vertical_spacing=0.06)
    for row, name in enumerate(names, start=1):
        figure.add_scatter(
            x=ordered["scale"],
            y=ordered[name],
            mode="lines+markers",
            name=MEASURES[name],
            hovertemplate="scale %{x:.4g}<br>%{y:.3f}<extra>" + MEASURES[name] + "</extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=_SHORT[name], row=row, col=1)
    figure.update_xaxes(type=_axis_type(table))
    figure.update_xaxes(title_text="Scale (norm of the injected vector)", row=len(names), col=1)
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        showlegend=False,
        height=_HEIGHT,
        margin={"t": 30, "r": 10, "b": 10},
    )
    return figure


def grid_figure(table: pd.DataFrame, measure: str = "score", *, dark: bool = False) -> go.Figure:
    """Heatmap of scale against replacement layer for one latent and prompt, texts in the hover.

    The scale axis holds multiples of the typical norm, which layers share where scales do not.

    Raises:
        ValueError: an unknown measure, no rows, or rows of several latents or prompts.
    """
    if measure not in MEASURES:
        raise ValueError(f"Unknown measure {measure!r}; use {', '.join(MEASURES)}.")
    if table.empty or len(table[["latent", "prompt"]].drop_duplicates()) != 1:
        raise ValueError("A grid shows one latent and one prompt; filter the table to them.")
    first = table[table["sample"] == 0].assign(column=lambda rows: rows["multiple"].round(3))
    values = first.pivot_table(index="layer", columns="column", values=measure)
    texts = first.pivot_table(index="layer", columns="column", values="answer", aggfunc="first")
    texts = texts.reindex_like(values).fillna("")
    told = [[_wrapped(text) for text in row] for row in texts.to_numpy()]
    figure = go.Figure(
        go.Heatmap(
            z=values.to_numpy(),
            x=[f"{multiple:g}" for multiple in values.columns],
            y=[str(layer) for layer in values.index],
            customdata=told,
            colorscale="Viridis",
            colorbar={"title": {"text": MEASURES[measure]}},
            hovertemplate="layer %{y}, scale %{x} × typical norm<br>%{z:.4g}<br>%{customdata}"
            "<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"title": "Scale, in multiples of the typical norm", "type": "category"},
        yaxis={"title": "Replacement layer", "type": "category"},
        template="plotly_dark" if dark else "plotly_white",
        height=max(260, min(700, 140 + 40 * len(values))),
        margin={"t": 30, "r": 10, "b": 10},
    )
    return figure


def _wrapped(text: str) -> str:
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, 60))
