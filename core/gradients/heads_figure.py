"""Attention heads in pictures: their scores, and where they look."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.plotly_text import escaped

_SCORES = (
    ("previous_token", "Looks at the token before"),
    ("induction", "Looks behind the earlier occurrence"),
)
_DARK = [[0.0, "#161a22"], [1.0, "#4aa3ff"]]


def head_score_figure(scores: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Layers down, heads across: how much of their attention goes where these heads look."""
    figure = make_subplots(
        cols=2, subplot_titles=[title for _, title in _SCORES], horizontal_spacing=0.1
    )
    for column, (name, _) in enumerate(_SCORES, start=1):
        table = scores.pivot(index="layer", columns="head", values=name)
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(),
                x=[str(head) for head in table.columns],
                y=[str(layer) for layer in table.index],
                zmin=0,
                zmax=1,
                colorscale=_DARK if dark else "Blues",
                showscale=column == len(_SCORES),
                colorbar={"tickformat": ".0%", "thickness": 12},
                texttemplate="%{z:.0%}" if table.size <= 80 else None,
                hovertemplate="layer %{y}, head %{x}: %{z:.0%}<extra></extra>",
            ),
            1,
            column,
        )
        figure.update_xaxes(title_text="Head", row=1, col=column)
        figure.update_yaxes(autorange="reversed", title_text="Layer", row=1, col=column)
    n_layers = scores["layer"].nunique()
    figure.update_layout(
        height=200 + 26 * n_layers,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 70, "b": 20},
    )
    return figure


def pattern_figure(
    patterns: Mapping[tuple[int, int], np.ndarray],
    titles: Mapping[tuple[int, int], str],
    tokens: Sequence[str],
    *,
    dark: bool = False,
) -> go.Figure:
    """Where each head looks: from a token (down) to the tokens it attends to (across)."""
    columns = min(3, len(patterns))
    rows = -(-len(patterns) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[titles[it].replace(": ", "<br>", 1) for it in patterns],
        horizontal_spacing=0.06,
        vertical_spacing=0.32 / rows,
    )
    names = [f"{escaped(repr(token))} ({n})" for n, token in enumerate(tokens)]
    for number, pattern in enumerate(patterns.values()):
        row, column = divmod(number, columns)
        figure.add_trace(
            go.Heatmap(
                z=pattern,
                customdata=[[(a, b) for b in names] for a in names],
                zmin=0,
                zmax=1,
                colorscale=_DARK if dark else "Blues",
                showscale=False,
                hovertemplate="%{customdata[0]} looks at %{customdata[1]}: %{z:.0%}<extra></extra>",
            ),
            row + 1,
            column + 1,
        )
    figure.update_yaxes(autorange="reversed", title_text="from", title_standoff=2)
    figure.update_xaxes(title_text="to", title_standoff=2)
    figure.update_annotations(font_size=12)
    figure.update_layout(
        height=60 + 330 * rows,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 80, "b": 20},
    )
    return figure
