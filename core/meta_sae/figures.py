"""The charts of decompositions; nulls are grey."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.meta_sae.measure import Decompositions
from core.meta_sae.stability import TWIN
from core.plotly_style import titled

MAIN, GREY, CHOSEN = "#4c78a8", "#8c8c8c", "#ff8c00"
SEVERAL = (
    "#ff8c00",
    "#54a24b",
    "#e45756",
    "#b279a2",
    "#4c78a8",
    "#eeca3b",
    "#72b7b2",
    "#9d755d",
)
"""Colours of the largest meta-latents on the map."""
_PALE = "rgba(140,140,140,0.35)"
_HEIGHT = 300


def explained_figure(made: Decompositions) -> go.Figure:
    """Variance explained by each way, beside what it would be without structure."""
    ways = [
        ("meta-SAE", made.explained, made.gaussian),
        ("own other latents", made.own.explained, made.own.null),
    ]
    if made.narrower is not None:
        ways.append(("narrower SAE", made.narrower.explained, made.narrower.null))
    names = [it[0] for it in ways]
    value = np.array([it[1].value for it in ways])
    bar = go.Bar(
        x=names,
        y=value,
        name="explained",
        marker_color=MAIN,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": np.array([it[1].high for it in ways]) - value,
            "arrayminus": value - np.array([it[1].low for it in ways]),
        },
        hovertemplate="%{x}: %{y:.1%}<extra></extra>",
    )
    drawing = go.Figure(bar)
    drawing.add_scatter(
        x=names,
        y=[it[2] for it in ways],
        mode="markers",
        name="Gaussian rows / random directions",
        marker={"color": GREY, "symbol": "x", "size": 11},
        hovertemplate="%{x}, null: %{y:.1%}<extra></extra>",
    )
    drawing.add_scatter(
        x=names[:1],
        y=[made.permuted],
        mode="markers",
        name="permuted coordinates",
        marker={"color": GREY, "symbol": "diamond-open", "size": 11},
        hovertemplate="%{x}, permuted: %{y:.1%}<extra></extra>",
    )
    titled(drawing, "", "variance explained", height=_HEIGHT)
    drawing.update_yaxes(tickformat=".0%", rangemode="tozero")
    return drawing


def stability_figure(made: Decompositions) -> go.Figure:
    """How near each meta-latent's partner is under another seed, and on Gaussian rows."""
    drawing = go.Figure()
    edges = {"start": -0.2, "end": 1.0, "size": 0.05}
    for name, values, colour in (
        ("another seed", made.matched, MAIN),
        ("Gaussian rows", made.matched_null, GREY),
    ):
        drawing.add_histogram(
            x=values[np.isfinite(values)],
            name=name,
            marker_color=colour,
            opacity=0.65,
            xbins=edges,
            hovertemplate=f"{name}, cosine %{{x}}: %{{y}}<extra></extra>",
        )
    drawing.add_vline(x=TWIN, line_dash="dash", line_color=GREY)
    titled(drawing, "cosine with its partner", "meta-latents", height=_HEIGHT)
    drawing.update_layout(barmode="overlay")
    return drawing


def map_figure(
    made: Decompositions, points: pd.DataFrame, *, meta: int | None, selected: int | None
) -> go.Figure:
    """The latents where `core.meta_sae.placed` puts them, coloured by a meta-latent's activation,
    or (None) by the strongest of the largest meta-latents; `selected` is a latent to ring."""
    where = points.set_index("latent_idx")
    placed = np.flatnonzero(np.isin(made.latents, where.index))
    at = where.loc[made.latents[placed]]
    x, y = at["umap_x"].to_numpy(), at["umap_y"].to_numpy()
    acts, latents = made.acts[placed], made.latents[placed]
    drawing = go.Figure()

    def layer(some: np.ndarray, name: str, marker: dict[str, object]) -> None:
        drawing.add_trace(
            go.Scattergl(
                x=x[some],
                y=y[some],
                mode="markers",
                name=name,
                customdata=latents[some],
                marker={"size": 6, **marker},
                hovertemplate=f"latent %{{customdata}}<br>{name}<extra></extra>",
            )
        )

    if meta is None:
        counts = np.bincount(acts.indices, minlength=acts.shape[1])
        largest = np.argsort(-counts, kind="stable")[: len(SEVERAL)]
        dense = np.asarray(acts[:, largest].todense())
        first = np.where(dense.max(1) > 0, dense.argmax(1), -1)
        layer(np.flatnonzero(first < 0), "none of them", {"color": _PALE, "size": 4})
        for rank, number in enumerate(largest):
            some = np.flatnonzero(first == rank)
            layer(some, f"meta-latent {number}", {"color": SEVERAL[rank]})
    else:
        value = np.asarray(acts[:, [meta]].todense()).ravel()
        layer(np.flatnonzero(value == 0), "without it", {"color": _PALE, "size": 4})
        some = np.flatnonzero(value > 0)
        scale = {
            "color": value[some],
            "colorscale": "YlOrRd",
            "cmin": 0,
            "showscale": True,
            "colorbar": {"title": "activation", "thickness": 12},
            "size": 8,
        }
        layer(some, f"meta-latent {meta}", scale)
    here = np.flatnonzero(latents == (-1 if selected is None else selected))
    if len(here):
        ring = {"size": 15, "symbol": "circle-open", "color": MAIN, "line": {"width": 3}}
        layer(here, f"latent {selected}", ring)
    titled(drawing, "", "", height=520)
    drawing.update_xaxes(visible=False)
    drawing.update_yaxes(visible=False)
    return drawing


def answers_figure(answers: pd.DataFrame) -> go.Figure:
    """How the probabilities of next tokens change, with the range that random directions span."""
    names = [repr(str(it)) for it in answers["token"]]
    middle = (answers["random_low"] + answers["random_high"]) / 2
    drawing = go.Figure(
        go.Bar(
            x=names,
            y=answers["change"],
            marker_color=CHOSEN,
            name="edited row",
            hovertemplate="%{x}: %{y:+.3%}<extra></extra>",
        )
    )
    drawing.add_scatter(
        x=names,
        y=middle,
        mode="markers",
        name="random directions (lowest to highest)",
        marker={"color": GREY, "size": 4},
        error_y={"type": "data", "array": answers["random_high"] - middle, "color": GREY},
        hoverinfo="skip",
    )
    drawing.add_scatter(
        x=names,
        y=answers["removed"],
        mode="markers",
        name="latent taken out",
        marker={"color": MAIN, "symbol": "diamond-open", "size": 9},
        hovertemplate="%{x}, taken out: %{y:+.3%}<extra></extra>",
    )
    titled(drawing, "next token", "change of probability", height=_HEIGHT)
    drawing.update_yaxes(tickformat="+.1%")
    drawing.update_xaxes(type="category")
    return drawing
