"""The small charts of the page."""

from typing import TYPE_CHECKING, Any

import numpy as np

from core.plotly_style import small_bars

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from core.latent.all_latents import DensityHistogram
    from core.latent.dashboard import Dashboard
    from core.logit_statistics import LogitEffects

ORANGE, BLUE, GREY = "#ff8c00", "#4c78a8", "#8c8c8c"
_HEIGHT = 200
CONFIG: dict[str, Any] = {"displayModeBar": False, "displaylogo": False}
"""For small charts, which need no tools."""


def activations(found: "Dashboard") -> "go.Figure":
    """How many positions have which activation, on a logarithmic axis."""
    import plotly.graph_objects as go

    edges = np.log10(found.edges)
    text = [
        f"{low:.3g} to {high:.3g}: {n:,} tokens"
        for low, high, n in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    bars = go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=found.counts,
        width=np.diff(edges) * 0.94,
        marker_color=ORANGE,
        hovertext=text,
        hoverinfo="text",
    )
    figure = small_bars(go.Figure(bars), "activation", "tokens", height=_HEIGHT)
    ticks = _nice_ticks(found.edges[0], found.edges[-1])
    figure.update_xaxes(tickvals=np.log10(ticks), ticktext=[f"{tick:g}" for tick in ticks])
    return figure


def logits(found: "LogitEffects") -> "go.Figure":
    """How many tokens of the vocabulary are pushed how far."""
    import plotly.graph_objects as go

    centre = (found.edges[:-1] + found.edges[1:]) / 2
    text = [
        f"{low:+.3f} to {high:+.3f}: {n:,} tokens of the vocabulary"
        for low, high, n in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    bars = go.Bar(
        x=centre,
        y=found.counts,
        width=np.diff(found.edges) * 0.94,
        marker_color=np.where(centre >= 0, BLUE, GREY).tolist(),
        hovertext=text,
        hoverinfo="text",
    )
    figure = small_bars(
        go.Figure(bars), "change of the token's score (logit)", "tokens", height=_HEIGHT
    )
    # The ends are what matters, and they hold one token each.
    figure.update_yaxes(type="log", dtick=1)
    return figure


def densities(
    found: "DensityHistogram", shown: tuple[float, ...], own: float | None
) -> "go.Figure":
    """How many latents are how often active; bars in the shown range are coloured."""
    import plotly.graph_objects as go

    low, high = shown or (-np.inf, np.inf)
    centre = (found.edges[:-1] + found.edges[1:]) / 2
    inside = (centre >= low) & (centre <= high)
    text = [
        f"active on {share(10**a)} to {share(10**b)} of tokens: {n:,} latents"
        for a, b, n in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    bars = go.Bar(
        x=centre,
        y=found.counts,
        width=np.diff(found.edges) * 0.94,
        marker_color=np.where(inside, BLUE, "rgba(140,140,140,.45)").tolist(),
        hovertext=text,
        hoverinfo="text",
        customdata=np.stack([found.edges[:-1], found.edges[1:]], axis=1).tolist(),
    )
    figure = small_bars(
        go.Figure(bars), "share of tokens at which a latent is active", "latents", height=_HEIGHT
    )
    first, last = int(np.floor(found.edges[0])), int(np.ceil(found.edges[-1]))
    ticks = list(range(first, last + 1))
    figure.update_xaxes(tickvals=ticks, ticktext=[share(10.0**tick) for tick in ticks])
    if own is not None and np.isfinite(own):
        figure.add_vline(x=own, line_color=ORANGE, line_width=2)
    return figure


def share(value: float) -> str:
    """A share as a percentage that never reads 0 unless it is."""
    if value == 0:
        return "0%"
    return f"{100 * value:.3g}%" if value >= 0.0995 else f"{100 * value:.2g}%"


def _nice_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... inside the range, at most about eight."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for factors in (range(1, 10), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in decades for m in factors if low <= m * 10.0**e <= high]
        if len(ticks) <= 8:
            break
    return ticks or [float(low), float(high)]
