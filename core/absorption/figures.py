"""The charts of absorption; nulls are grey."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.absorption.result import ConceptResult
from core.plotly_style import titled
from core.plotly_text import escaped

MAIN, GREY, NOBODY = "#4c78a8", "#8c8c8c", "#e3e3e3"
ABSORBERS = ("#ff8c00", "#54a24b", "#e45756", "#b279a2", "#9d755d", "#eeca3b", "#72b7b2")
"""Colours of the latents that absorb most; all others have the last colour of the strip."""
_OTHERS = "#555555"
_MOST = 300


def overview_figure(results: Sequence[ConceptResult], *, chosen: str | None = None) -> go.Figure:
    """Full absorption of each concept with its interval, beside the nulls."""
    names = [escaped(it.name) for it in results]
    value = np.array([it.full.value for it in results])
    drawing = go.Figure(
        go.Bar(
            x=names,
            y=value,
            name="full absorption",
            marker_color=["#ff8c00" if it.name == chosen else MAIN for it in results],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": np.array([it.full.high for it in results]) - value,
                "arrayminus": value - np.array([it.full.low for it in results]),
            },
        )
    )
    for name, field, symbol in (
        ("shuffled labels", "shuffled", "line-ew-open"),
        ("random directions", "random_direction", "x"),
        ("random SAE", "random_sae", "diamond-open"),
    ):
        y = [getattr(it, field).full for it in results]
        marker = {"color": GREY, "symbol": symbol, "size": 9, "line": {"width": 2}}
        drawing.add_scatter(
            x=names,
            y=y,
            mode="markers",
            name=name,
            marker=marker,
            hovertemplate=f"%{{x}}, {name}: %{{y:.1%}}<extra></extra>",
        )
    titled(drawing, "", "share of true positives", height=320)
    drawing.update_yaxes(tickformat=".0%", rangemode="tozero")
    return drawing


def curve_figure(result: ConceptResult) -> go.Figure:
    """F1 of the k-sparse probes; the concept's own latents are filled, the full probe is dashed."""
    k = np.arange(1, len(result.sparse_f1) + 1)
    drawing = go.Figure(
        go.Scatter(
            x=k,
            y=result.sparse_f1,
            mode="lines+markers",
            name="k latents",
            line_color=MAIN,
            marker={
                "size": 10,
                "symbol": ["circle" if it <= len(result.mains) else "circle-open" for it in k],
            },
            customdata=result.latents,
            hovertemplate="with latent %{customdata}: F1 %{y:.3f}<extra></extra>",
        )
    )
    drawing.add_hline(y=result.f1, line_dash="dash", line_color="#54a24b")
    drawing.add_hline(y=result.shuffled_f1, line_dash="dot", line_color=GREY)
    titled(drawing, "latents of the k-sparse probe", "F1 on held-out tokens", height=260)
    drawing.update_yaxes(range=[0, 1.03])
    drawing.update_xaxes(dtick=1)
    return drawing


def strip_figure(tokens: pd.DataFrame, absorbers: pd.DataFrame) -> go.Figure:
    """Coverage: a column for each token, the surest first; blue where a latent of the concept
    fires, the absorber's colour where it is absorbed, pale where nobody fires.

    Of more than 300 tokens, some are drawn, evenly over their order.
    """
    order = np.unique(np.linspace(0, len(tokens) - 1, min(len(tokens), _MOST)).astype(int))
    shown = tokens.iloc[order]
    x = np.arange(len(shown))
    text = [escaped(repr(it)) for it in shown["text"]] if "text" in shown else x.astype(str)
    named = [int(it) for it in absorbers["latent"][: len(ABSORBERS)]]
    drawing = go.Figure()

    def layer(name: str, y: np.ndarray, colour: str) -> None:
        drawing.add_bar(
            x=x,
            y=y,
            name=name,
            marker_color=colour,
            marker_line_width=0,
            customdata=text,
            hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.0%}}<extra></extra>",
        )

    fires, full = shown["fires"].to_numpy(), shown["full"].to_numpy()
    absorber = shown["absorber"].to_numpy()
    layer("own latents fire", fires, MAIN)
    for latent, colour in zip(named, ABSORBERS, strict=False):
        layer(f"latent {latent} instead", np.where(absorber == latent, full, 0.0), colour)
    layer("another instead", np.where(np.isin(absorber, named), 0.0, full), _OTHERS)
    layer("nobody alone", np.maximum(0, 1 - fires - full), NOBODY)
    titled(drawing, "tokens of the concept, the surest first", "share of positions", height=260)
    drawing.update_layout(barmode="stack", bargap=0, legend_traceorder="normal")
    drawing.update_yaxes(tickformat=".0%", range=[0, 1])
    return drawing


def width_figure(table: pd.DataFrame, *, chosen: str | None = None) -> go.Figure:
    """Mean full absorption against width, with the nulls; `table` is `tables.width_table`'s."""
    names = table["latents"].map("{:,}".format)
    drawing = go.Figure(
        go.Scatter(
            x=names,
            y=table["full"],
            mode="lines+markers",
            name="full absorption",
            line_color=MAIN,
            marker={
                "size": 11,
                "color": ["#ff8c00" if it == chosen else MAIN for it in table["sae"]],
            },
            error_y={
                "type": "data",
                "symmetric": False,
                "array": table["full_high"] - table["full"],
                "arrayminus": table["full"] - table["full_low"],
            },
            customdata=table["l0"],
            hovertemplate="%{x} latents, L0 %{customdata:.1f}: %{y:.1%}<extra></extra>",
        )
    )
    drawing.add_scatter(
        x=names,
        y=table["fraction"],
        mode="lines+markers",
        name="absorption fraction",
        line={"color": "#54a24b"},
    )
    for name, column, dash in (
        ("shuffled labels", "shuffled", "solid"),
        ("random SAE", "random_sae", "dot"),
        ("random directions", "random_direction", "dash"),
    ):
        drawing.add_scatter(
            x=names,
            y=table[column],
            mode="lines+markers",
            name=name,
            line={"color": GREY, "dash": dash},
        )
    titled(drawing, "latents", "mean over concepts", height=340)
    drawing.update_xaxes(type="category")
    drawing.update_yaxes(tickformat=".0%", rangemode="tozero")
    return drawing
