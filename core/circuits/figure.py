"""A circuit as a picture: positions of the prompt from left to right, layers from bottom to top."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from core.circuits.graph import LATENT, LOGIT, REST, TOKEN, Circuit
from core.circuits.layout import Layout, cut_label, lay_out
from core.circuits.subgraph import GROUP
from core.plotly_text import escaped
from core.view.contrast import INKS

_WIDTHS = (1.0, 2.0, 3.5, 5.5)
_BLUE, _RED, _GRAY, _FRAME = "#2f7ed8", "#d9483b", "#9aa0a6", "#e8710a"
_MARKS = {TOKEN: "square", REST: "circle-open", GROUP: "diamond"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 140, 10, 40, 110
"""Pixels around the nodes: names of layers, the plot's buttons, tokens of the prompt."""
_TEXT = 11


def circuit_figure(
    circuit: Circuit,
    *,
    tokens: Sequence[str],
    layer_titles: Sequence[str],
    labels: Sequence[str],
    descriptions: Mapping[int, str] | None = None,
    chosen: int | None = None,
    pinned: Collection[int] = (),
    dark: bool = False,
) -> go.Figure:
    """Nodes where they are in the prompt and the model; edges as wide as what flows along them.

    `labels` are the names of the nodes for hovering, `descriptions` texts by row of the nodes, of
    which the beginning stands beside them. `customdata` of a marker is its row. Blue adds to the
    end, red takes away from it. Positions without nodes are left out. `chosen` is framed, `pinned`
    have a rim.
    """
    layout = lay_out(circuit.nodes, len(layer_titles))
    figure = go.Figure()
    _add_edges(figure, circuit, layout.places)
    nodes = circuit.nodes
    influence = nodes["influence"].to_numpy()
    texts = [(descriptions or {}).get(row, "") for row in range(len(nodes))]
    size = np.abs(influence) / (np.abs(influence[:-1]).max(initial=0.0) or 1.0)
    told = [f"<br><i>{escaped(text[:90])}</i>" if text else "" for text in texts]
    ink = INKS[dark]
    colours = [
        _GRAY if kind == REST else _BLUE if value >= 0 else _RED
        for kind, value in zip(nodes["kind"], influence, strict=True)
    ]
    outline = [
        _FRAME if row == chosen else ink if row in pinned else "rgba(0,0,0,0)"
        for row in range(len(nodes))
    ]
    figure.add_trace(
        go.Scatter(
            x=layout.places[:, 0] + 12,
            y=layout.places[:, 1],
            mode="markers+text",
            marker={
                "size": 9 + 8 * np.sqrt(np.minimum(size, 1.0)),
                "color": colours,
                "symbol": [_MARKS.get(kind, "circle") for kind in nodes["kind"]],
                "line": {"width": 3, "color": outline},
                "opacity": 1,
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            text=[
                _beside(kind, index, label, text)
                for kind, index, label, text in zip(
                    nodes["kind"], nodes["index"], labels, texts, strict=True
                )
            ],
            textposition="middle right",
            # Letters stay readable on the lines behind them.
            textfont={
                "size": _TEXT,
                "color": ink,
                "shadow": ", ".join([f"0px 0px 2px {'#171614' if dark else 'white'}"] * 3),
            },
            customdata=[
                [row, escaped(label), told[row], float(value), float(part)]
                for row, (label, value, part) in enumerate(
                    zip(labels, nodes["value"], influence, strict=True)
                )
            ],
            hovertemplate=(
                "%{customdata[1]}%{customdata[2]}<br>activation %{customdata[3]:.3g}"
                "<br>adds %{customdata[4]:.3g} to the end<extra></extra>"
            ),
            showlegend=False,
        )
    )
    _set_axes(figure, layout, tokens, layer_titles)
    figure.update_layout(
        width=int(layout.width) + _LEFT + _RIGHT,
        height=int(layout.height) + _TOP + _BOTTOM,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": _BOTTOM},
        hovermode="closest",
        hoverlabel={"bgcolor": "#3c4043", "font": {"color": "white"}},
        clickmode="event+select",
        dragmode="pan",
    )
    return figure


def _beside(kind: str, index: int, label: str, text: str) -> str:
    """The two lines beside a node: what it is, and what is said of it."""
    if kind == TOKEN:
        return escaped(cut_label(label))
    if kind == REST:
        return "<i>unexplained</i>"
    first = str(index) if kind == LATENT else cut_label(label)
    second = cut_label(text) if kind != LOGIT else ""
    return f"<b>{escaped(first)}</b>" + (f"<br>{escaped(second)}" if second else "")


def _set_axes(
    figure: go.Figure, layout: Layout, tokens: Sequence[str], layer_titles: Sequence[str]
) -> None:
    figure.update_xaxes(
        tickmode="array",
        tickvals=(layout.columns + 12).tolist(),
        ticktext=[f"{escaped(repr(tokens[n]))} ({n})" for n in layout.positions],
        tickangle=30,
        showgrid=False,
        zeroline=False,
        range=[-8, layout.width],
        title_text="Position in the prompt",
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=layout.layers.tolist(),
        ticktext=[escaped(title).replace(": ", ":<br>", 1) for title in layer_titles],
        zeroline=False,
        showgrid=False,
        range=[-10, layout.height],
    )


def _add_edges(figure: go.Figure, circuit: Circuit, places: np.ndarray) -> None:
    edges = circuit.edges
    if not len(edges):
        return
    size = np.abs(edges["influence"].to_numpy())
    level = np.sqrt(size / (size.max() or 1.0))
    bins = np.minimum((level * len(_WIDTHS)).astype(int), len(_WIDTHS) - 1)
    for number, width in enumerate(_WIDTHS):
        for sign, colour in ((1, _BLUE), (-1, _RED)):
            part = edges[(bins == number) & (np.sign(edges["influence"]) == sign)]
            if not len(part):
                continue
            ends: list[Any] = [part["source"].to_numpy(), part["target"].to_numpy()]
            gap = np.full(len(part), np.nan)
            figure.add_trace(
                go.Scatter(
                    x=np.stack([places[ends[0], 0] + 12, places[ends[1], 0] + 12, gap], 1).ravel(),
                    y=np.stack([places[ends[0], 1], places[ends[1], 1], gap], 1).ravel(),
                    mode="lines",
                    line={"width": width, "color": colour},
                    opacity=0.4 + 0.15 * number,
                    hoverinfo="skip",
                    showlegend=False,
                )
            )
