"""A chart of what each head brings to a latent from each token."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.attribution.on_text import Sources
from core.plotly_text import escaped
from core.view.markup import visible_token

_MOST_LABEL = 14
_DRAWN = 60


def sources_figure(sources: Sources) -> go.Figure:
    """What each head brings from each token, and below it the sum over heads.

    Of long texts, only the last tokens and those that matter most before them are drawn, `_DRAWN`
    in all.
    """
    shown, labels = _shown(sources)
    terms = sources.attribution.terms.numpy()[:, shown]
    pattern = sources.attribution.pattern.numpy()[:, shown]
    values, places = terms.sum(axis=0), np.arange(len(shown))
    limit = float(np.abs(terms).max()) or 1.0
    upper = 40 + 26 * len(terms)
    lower = 150
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.03,
        row_heights=[upper / (upper + lower), lower / (upper + lower)],
    )
    figure.add_heatmap(
        row=1,
        col=1,
        z=terms,
        x=places,
        y=[f"head {head}" for head in range(len(terms))],
        zmin=-limit,
        zmax=limit,
        colorscale="RdBu_r",
        customdata=np.stack([pattern, np.broadcast_to(shown, pattern.shape)], axis=-1),
        text=np.broadcast_to(np.array(labels, dtype=object), terms.shape),
        hovertemplate=(
            "%{y}, from token %{customdata[1]} “%{text}”<br>brings %{z:+.4f}<br>pays it "
            "%{customdata[0]:.1%} of its attention<extra></extra>"
        ),
        showscale=False,
    )
    figure.add_bar(
        row=2,
        col=1,
        x=places,
        y=values,
        marker_color=np.where(values >= 0, "#b2182b", "#2166ac").tolist(),
        customdata=shown,
        text=labels,
        textposition="none",
        hovertemplate="token %{customdata} “%{text}”: %{y:+.4f}<extra></extra>",
    )
    figure.update_layout(
        height=upper + lower + 110,
        margin={"l": 76, "r": 16, "t": 8, "b": 96},
        bargap=0.15,
        dragmode=False,
        showlegend=False,
    )
    figure.update_xaxes(fixedrange=True, range=[-0.5, len(labels) - 0.5])
    figure.update_xaxes(
        row=2,
        col=1,
        tickvals=list(range(len(labels))),
        ticktext=labels,
        tickangle=-60,
        tickfont={"family": "monospace", "size": 11},
    )
    figure.update_yaxes(fixedrange=True)
    figure.update_yaxes(row=1, col=1, autorange="reversed")
    figure.update_yaxes(row=2, col=1, title_text="all heads")
    return figure


def _shown(sources: Sources) -> tuple[np.ndarray, list[str]]:
    """Positions that are drawn, in order, and their labels."""
    terms = sources.attribution.terms.numpy()
    n = terms.shape[1]
    if n <= _DRAWN:
        shown = np.arange(n)
    else:
        size = np.abs(terms).max(axis=0)
        size[-_DRAWN // 2 :] = np.inf
        shown = np.sort(np.argsort(-size, kind="stable")[:_DRAWN])
    return shown, [_label(sources.tokens[place]) for place in shown]


def _label(token: str) -> str:
    shown = visible_token(token)
    short = shown if len(shown) <= _MOST_LABEL else shown[: _MOST_LABEL - 1] + "…"
    return escaped(short)
