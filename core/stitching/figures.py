"""The charts of a stitched pair; nulls are grey."""

import numpy as np
import plotly.graph_objects as go

from core.plotly_style import titled
from core.stitching.curve import Curve
from core.stitching.proxy import ProxyCheck
from core.stitching.result import Stitching

NOVEL, REPEATED, GREY = "#54a24b", "#e45756", "#8c8c8c"
MEASURES = {"error": "Mean squared error", "l0": "Active latents a token", "loss": "Loss (nats)"}
"""What can be drawn along the curve."""
_MOST = 8000


def scatter_figure(found: Stitching, threshold: float) -> go.Figure:
    """Cosine with the nearest narrow row across, change of the error up: a point a latent.

    `customdata` of each point is its latent. Of more than 8,000 latents those with the largest
    changes are drawn.
    """
    deltas = found.deltas
    shown = np.flatnonzero(found.told & np.isfinite(found.cosine))
    shown = shown[np.argsort(-np.abs(deltas.delta[shown]), kind="stable")][:_MOST]
    share = 100 * deltas.delta / deltas.narrow_error
    novel = deltas.delta[shown] < 0
    drawing = go.Figure()
    for name, chosen, colour in (
        ("lowers the error: novel", novel, NOVEL),
        ("raises it: reconstruction", ~novel, REPEATED),
    ):
        some = shown[chosen]
        drawing.add_scattergl(
            x=found.cosine[some],
            y=share[some],
            mode="markers",
            name=f"{name} ({len(some):,})",
            marker={"size": 5, "color": colour, "opacity": 0.6},
            customdata=np.stack([some, found.match[some], deltas.firings[some]], 1),
            hovertemplate="latent %{customdata[0]}<br>nearest: %{customdata[1]}, cosine %{x:.2f}"
            "<br>error %{y:+.3f} %<br>fires on %{customdata[2]:,} tokens<extra></extra>",
        )
    drawing.add_vline(x=threshold, line_dash="dash", line_color=GREY)
    drawing.add_hline(y=0, line_color=GREY, line_width=1)
    if len(shown):
        # A few that repeat a strong one would flatten all others; a double click shows them.
        low, high = np.quantile(share[shown], [0.0, 0.97])
        pad = 0.05 * (high - low) or 1.0
        drawing.update_yaxes(range=[float(low - pad), float(high + pad)])
    return titled(
        drawing,
        "cosine with the nearest row of the narrow SAE",
        "change of its error (%)",
        height=380,
        top=30,
    )


def roc_figure(check: ProxyCheck) -> go.Figure:
    """Share of novel latents found against false alarms, as the threshold moves."""
    cut, hits, alarms = check.curve.T
    drawing = go.Figure(
        go.Scatter(
            x=alarms,
            y=hits,
            mode="lines",
            line={"color": NOVEL, "width": 2},
            name="cosine below a threshold",
            customdata=cut,
            hovertemplate="below %{customdata:.2f}: %{y:.1%} of the novel, %{x:.1%} of the "
            "others<extra></extra>",
        )
    )
    drawing.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="chance"
    )
    drawing.add_scatter(
        x=[check.false_alarms.value],
        y=[check.hits.value],
        mode="markers",
        marker={"size": 11, "color": "#ff8c00"},
        name=f"threshold {check.threshold:g}",
    )
    titled(
        drawing,
        "reconstruction latents below the cosine",
        "novel latents below it",
        height=340,
        top=30,
    )
    drawing.update_xaxes(tickformat=".0%", range=[-0.02, 1.02])
    drawing.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    return drawing


def curve_figure(curve: Curve, measure: str = "error") -> go.Figure:
    """One measure from the narrow SAE (left) to the wide one (right).

    Raises:
        ValueError: a measure that there is not.
    """
    values = {"error": curve.error, "loss": curve.loss, "l0": curve.l0[:, None]}.get(measure)
    if values is None:
        raise ValueError(f"There is no {measure!r} along this curve; use error or l0.")
    steps = list(range(len(curve.added)))
    text = [f"+{a:,} −{curve.kept[0] - k:,}" for a, k in zip(curve.added, curve.kept, strict=True)]
    trace = go.Scatter(
        x=steps,
        y=values[:, 0],
        mode="lines+markers",
        name=MEASURES[measure],
        line_color="#4c78a8",
        customdata=text,
        hovertemplate="%{customdata} latents: %{y:.4g}<extra></extra>",
    )
    if values.shape[1] == 3:
        trace.error_y = {
            "type": "data",
            "symmetric": False,
            "array": values[:, 2] - values[:, 0],
            "arrayminus": values[:, 0] - values[:, 1],
        }
    drawing = go.Figure(trace)
    if measure == "error":
        drawing.add_scatter(
            x=steps,
            y=curve.random_error,
            mode="lines+markers",
            name="latents in random order",
            line={"color": GREY, "dash": "dot"},
        )
    drawing.add_vline(x=curve.last_novel, line_dash="dash", line_color=GREY)
    titled(
        drawing,
        "latents of the wide SAE put in, of the narrow one taken out",
        MEASURES[measure],
        height=340,
        top=30,
    )
    drawing.update_xaxes(tickvals=steps, ticktext=text, tickangle=-40)
    return drawing
