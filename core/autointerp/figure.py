"""How well explanations predict, as distributions: the SAE's latents beside its controls."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from core.export import SEE_THROUGH

TITLES = {
    "latents": "The SAE's latents",
    "neurons": "Neurons of its layer",
    "random directions": "Random directions",
    "random weights": "The SAE with random weights",
}
"""How each kind is called."""
_COLOURS = {
    "latents": "#1f77b4",
    "neurons": "#ff7f0e",
    "random directions": "#9467bd",
    "random weights": "#6b6b6b",
}
_ON_DARK = {
    "latents": "#6fb1e0",
    "neurons": "#ffa657",
    "random directions": "#c4a5e8",
    "random weights": "#b5b5b5",
}
_BINS = 20


def score_figure(
    scores: Mapping[str, Sequence[float]], *, dark: bool, title: str = "Balanced accuracy"
) -> go.Figure:
    """A row for each kind: how many units have which balanced accuracy, and their mean.

    Bins are 0.05 wide; a line at 0.5 marks what knowing nothing scores.
    """
    kinds = [kind for kind in TITLES if kind in scores]
    colours = _ON_DARK if dark else _COLOURS
    figure = go.Figure()
    edges = np.linspace(0, 1, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    for kind in kinds:
        values = np.asarray(scores[kind], dtype=np.float64)
        # The topmost score belongs to the last bin; rounding must not move one below an edge.
        counts, _ = np.histogram(np.clip(values + 1e-9, 0, 1), edges)
        share = counts / max(1, len(values))
        figure.add_bar(
            x=centres,
            y=share,
            width=0.045,
            name=f"{TITLES[kind]} ({len(values)})",
            marker_color=colours[kind],
            opacity=0.85,
            customdata=np.stack([counts, edges[:-1], edges[1:]], axis=1),
            hovertemplate="%{customdata[0]:.0f} from %{customdata[1]:.2f} to %{customdata[2]:.2f}"
            "<extra>" + TITLES[kind] + "</extra>",
            yaxis="y" if kind == kinds[0] else f"y{kinds.index(kind) + 1}",
        )
    ink = "#e6e6e6" if dark else "#303030"
    n = max(1, len(kinds))
    layout: dict[str, object] = {}
    for number, kind in enumerate(kinds):
        name = "yaxis" if number == 0 else f"yaxis{number + 1}"
        top = 1 - number / n
        layout[name] = {
            "domain": [max(0.0, top - 1 / n + 0.03), top - 0.03],
            "showticklabels": False,
            "showgrid": False,
            "zeroline": True,
            "zerolinecolor": "rgba(128,128,128,0.4)",
            "fixedrange": True,
        }
        values = np.asarray(scores[kind], dtype=np.float64)
        axis = "y" if number == 0 else f"y{number + 1}"
        mean = f"mean {values.mean():.2f}" if len(values) else "none could be scored"
        figure.add_annotation(
            x=0.01,
            y=top - 0.03,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="top",
            text=f"<b>{TITLES[kind]}</b><br>{len(values)} scored, {mean}",
            align="left",
            showarrow=False,
            font={"size": 13, "color": colours[kind]},
        )
        if len(values):
            figure.add_shape(
                type="line",
                x0=values.mean(),
                x1=values.mean(),
                y0=0,
                y1=1,
                yref=f"{axis} domain",
                line={"color": ink, "width": 2},
            )
    figure.add_vline(x=0.5, line={"color": ink, "width": 1, "dash": "dot"})
    figure.update_layout(
        **layout,
        height=90 + 105 * n,
        margin={"l": 10, "r": 10, "t": 10, "b": 45},
        showlegend=False,
        bargap=0,
        barmode="overlay",
        template="plotly_dark" if dark else "plotly_white",
        paper_bgcolor=SEE_THROUGH,
        plot_bgcolor=SEE_THROUGH,
        font={"color": ink, "size": 13},
        xaxis={
            "title": f"{title} (0.5 is what knowing nothing scores)",
            "range": [-0.01, 1.01],
            "dtick": 0.1,
            "anchor": "free",
            "position": 0,
            "gridcolor": "rgba(128,128,128,0.25)",
            "fixedrange": True,
        },
    )
    return figure
