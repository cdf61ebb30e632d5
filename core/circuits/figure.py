"""A circuit as a picture: positions of the prompt from left to right, layers from bottom to top."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.circuits.graph import LATENT, LOGIT, REST, TOKEN, Circuit
from core.plotly_text import escaped

_WIDTHS = (1.0, 2.0, 3.5, 5.5)
_BLUE, _RED, _GRAY, _FRAME = "#2f7ed8", "#d9483b", "#9aa0a6", "#e8710a"
_NARROW = 0.7
_LAYER_HEIGHT = 110
_MARKS = {TOKEN: "square", REST: "circle-open"}


def circuit_figure(
    circuit: Circuit,
    *,
    tokens: Sequence[str],
    layer_titles: Sequence[str],
    labels: Sequence[str],
    descriptions: Mapping[int, str] | None = None,
    chosen: int | None = None,
    dark: bool = False,
) -> go.Figure:
    """Nodes where they are in the prompt and the model; edges as wide as what flows along them.

    `labels` are the names of the nodes for hovering, `descriptions` texts by row of the nodes.
    `customdata` of a marker is its row. Blue adds to the end, red takes away from it.
    """
    places = node_places(circuit, len(tokens))
    figure = go.Figure()
    _add_edges(figure, circuit, places)
    nodes = circuit.nodes
    influence = nodes["influence"].to_numpy()
    text = [
        str(index) if kind == LATENT else escaped(label) if kind == LOGIT else ""
        for index, kind, label in zip(nodes["index"], nodes["kind"], labels, strict=True)
    ]
    size = np.abs(influence) / (np.abs(influence[:-1]).max(initial=0.0) or 1.0)
    told = [
        f"<br><i>{escaped(it[:90])}</i>" if it else ""
        for it in ((descriptions or {}).get(row, "") for row in range(len(nodes)))
    ]
    colours = [
        _GRAY if kind == REST else _BLUE if value >= 0 else _RED
        for kind, value in zip(nodes["kind"], influence, strict=True)
    ]
    outline = [_FRAME if row == chosen else "rgba(0,0,0,0)" for row in range(len(nodes))]
    figure.add_trace(
        go.Scatter(
            x=places[:, 0],
            y=places[:, 1],
            mode="markers+text",
            marker={
                "size": 11 + 12 * np.sqrt(np.minimum(size, 1.0)),
                "color": colours,
                "symbol": [_MARKS.get(kind, "circle") for kind in nodes["kind"]],
                "line": {"width": 3, "color": outline},
                "opacity": 1,
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            text=text,
            textposition="top center",
            textfont={"size": 10},
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
    columns, room = _columns(circuit.nodes, len(tokens))
    figure.update_xaxes(
        tickmode="array",
        tickvals=columns.tolist(),
        ticktext=[f"{escaped(repr(token))} ({n})" for n, token in enumerate(tokens)],
        tickangle=-45,
        showgrid=False,
        zeroline=False,
        range=[columns[0] - room[0] / 2 - 0.2, columns[-1] + room[-1] / 2 + 0.2],
        title_text="Position in the prompt",
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(layer_titles))),
        ticktext=[escaped(title) for title in layer_titles],
        automargin=True,
        zeroline=False,
        range=[-0.5, len(layer_titles) - 0.4],
    )
    figure.update_layout(
        height=120 + _LAYER_HEIGHT * len(layer_titles),
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 30, "b": 20},
        hovermode="closest",
        hoverlabel={"bgcolor": "#3c4043", "font": {"color": "white"}},
        clickmode="event+select",
        dragmode="pan",
    )
    return figure


def node_places(circuit: Circuit, n_positions: int) -> np.ndarray:
    """x and y of each node `[n, 2]`: nodes of one position and layer stand side by side."""
    nodes = circuit.nodes
    columns, room = _columns(nodes, n_positions)
    places = np.zeros((len(nodes), 2))
    for (layer, position), part in nodes.groupby(["layer", "position"]):
        rows = part.index.to_numpy()
        spread = (np.arange(len(rows)) - (len(rows) - 1) / 2) / max(1, len(rows))
        places[rows, 0] = columns[position] + spread * room[position]
        # A little up and down, so that edges do not run along one line.
        places[rows, 1] = layer + 0.07 * (np.arange(len(rows)) % 2 * 2 - 1) * (len(rows) > 1)
    return places


def _columns(nodes: pd.DataFrame, n_positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Middle and width of each position's column: as wide as its fullest layer needs."""
    room = np.full(n_positions, _NARROW)
    counts = nodes.groupby(["layer", "position"]).size()
    for (_, position), count in counts.items():
        room[position] = max(room[position], 0.45 * count + 0.3)
    ends = np.cumsum(room)
    return ends - room / 2, room * 0.92


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
                    x=np.stack([places[ends[0], 0], places[ends[1], 0], gap], 1).ravel(),
                    y=np.stack([places[ends[0], 1], places[ends[1], 1], gap], 1).ravel(),
                    mode="lines",
                    line={"width": width, "color": colour},
                    opacity=0.4 + 0.15 * number,
                    hoverinfo="skip",
                    showlegend=False,
                )
            )
