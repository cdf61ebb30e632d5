"""Heatmap of a gradient matrix: sources down, targets across, red below zero and blue above."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from core.gradients.matrix import GradientMatrix
from core.plotly_text import escaped

MOST_DRAWN = 150
"""Rows and columns beyond which only the strongest are drawn."""

_CELL, _CHARACTER = 16, 7
_SMALLEST, _LARGEST = 420, 2600
_ALL_NAMED = 90
_DARK_SCALE = [[0.0, "#ff5c5c"], [0.5, "#161a22"], [1.0, "#4aa3ff"]]
_SHORT = 70


def gradient_heatmap(
    matrix: GradientMatrix,
    *,
    title: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    boxes: Sequence[tuple[int, int]] = (),
    limit: float | None = None,
    clickable: bool = False,
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> go.Figure:
    """The matrix as it is ordered, as a plotly figure with symmetric colours.

    Beyond `MOST_DRAWN` rows or columns only the strongest are drawn, in the same order, and the
    title says so. Hovering names both ends and shows `descriptions` of their labels. `customdata`
    of a cell starts with its target's and source's number in the route. `boxes` are pairs of
    (source position, target position) to be framed, for matrices in order of position. `limit`
    is the value at which colours end; by default the largest there is. With `clickable`, unseen
    markers lie on the cells that are not zero, because heatmaps themselves cannot be selected
    from. `chosen` are the target's and source's number of a cell to be framed.

    Raises:
        ValueError: a matrix without entries.
    """
    if not matrix.values.size:
        raise ValueError("There is nothing to draw: no entry passes the filters.")
    whole, matrix = matrix, _strongest(matrix)
    size = float(np.abs(matrix.values).max()) if limit is None else limit
    labels = {
        end: part["label"].tolist()
        for end, part in (("from", matrix.sources), ("to", matrix.targets))
    }
    heatmap = go.Heatmap(
        z=matrix.values.T,
        x=list(range(len(matrix.targets))),
        y=list(range(len(matrix.sources))),
        customdata=_customdata(matrix, labels, descriptions or {}),
        colorscale=_DARK_SCALE if dark else "RdBu",
        zmid=0,
        zmin=-(size or 1.0),
        zmax=size or 1.0,
        colorbar={"title": {"text": matrix.kind}, "thickness": 14},
        hovertemplate=(
            "%{customdata[2]}%{customdata[4]}<br>→ %{customdata[3]}%{customdata[5]}"
            f"<br>{matrix.kind} %{{z:.4g}}<extra></extra>"
        ),
    )
    figure = go.Figure(heatmap)
    if clickable:
        _add_markers(figure, heatmap, matrix)
    # Given, because Plotly would leave room around the markers.
    n_to, n_from = len(matrix.targets), len(matrix.sources)
    figure.update_xaxes(
        **_ticks(labels["to"]),
        tickangle=-90,
        title_text=_axis_title(matrix, "to"),
        range=[-0.5, n_to - 0.5],
    )
    figure.update_yaxes(
        **_ticks(labels["from"]), range=[n_from - 0.5, -0.5], title_text=_axis_title(matrix, "from")
    )
    for frame in _frames(matrix, boxes):
        figure.add_shape(
            type="rect", **frame, line={"color": "white" if dark else "black", "width": 1.5}
        )
    for frame in _frame_of(matrix, chosen):
        figure.add_shape(type="rect", **frame, line={"color": "#e8710a", "width": 3})
    width, height = _extent(labels["to"], labels["from"]), _extent(labels["from"], labels["to"])
    figure.update_layout(
        title={"text": "<br>".join(filter(None, [title, _cut_note(whole, matrix)]))},
        width=width,
        height=height,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 70, "b": 20},
    )
    return figure


def _add_markers(figure: go.Figure, heatmap: go.Heatmap, matrix: GradientMatrix) -> None:
    sources, targets = np.nonzero(matrix.values.T)
    unseen = {"marker": {"opacity": 0}}
    figure.add_trace(
        go.Scattergl(
            x=targets,
            y=sources,
            mode="markers",
            marker={"symbol": "square", "size": _CELL, "opacity": 0},
            selected=unseen,
            unselected=unseen,
            customdata=np.column_stack(
                [heatmap.customdata[sources, targets], matrix.values[targets, sources]]
            ),
            hovertemplate=heatmap.hovertemplate.replace("%{z:", "%{customdata[6]:"),
            showlegend=False,
        )
    )
    heatmap = figure.data[0]
    heatmap.hoverinfo, heatmap.hovertemplate = "skip", None
    figure.update_layout(
        hovermode="closest",
        clickmode="event+select",
        dragmode="zoom",
        hoverlabel={"bgcolor": "#3c4043", "font": {"color": "white"}},
    )


def _strongest(matrix: GradientMatrix) -> GradientMatrix:
    size = np.abs(matrix.values)
    rows, columns = (
        np.sort(np.argsort(-size.sum(axis), kind="stable")[:MOST_DRAWN]) for axis in (1, 0)
    )
    return matrix.take(rows, columns)


def _cut_note(whole: GradientMatrix, drawn: GradientMatrix) -> str | None:
    if whole.values.shape == drawn.values.shape:
        return None
    (n_to, n_from), (to, source) = whole.values.shape, drawn.values.shape
    total = float(np.abs(whole.values).sum())
    share = float(np.abs(drawn.values).sum()) / total if total else 0.0
    return (
        f"<sup>Drawn: the strongest {source:,} of {n_from:,} sources and {to:,} of {n_to:,} "
        f"targets, with {share:.0%} of all absolute values</sup>"
    )


def _customdata(
    matrix: GradientMatrix, labels: dict[str, list[str]], descriptions: Mapping[str, str]
) -> np.ndarray:
    """What hovering says of each cell, (n_sources, n_targets, 6): an array, because Plotly looks at
    every entry of lists."""

    def told(label: str) -> str:
        text = " ".join(descriptions.get(label, "").split())
        text = text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
        return f"<br><i>{escaped(text)}</i>" if text else ""

    to = [
        (int(n), escaped(name), told(name))
        for n, name in zip(matrix.targets["number"], labels["to"], strict=True)
    ]
    source = [
        (int(n), escaped(name), told(name))
        for n, name in zip(matrix.sources["number"], labels["from"], strict=True)
    ]
    said = np.empty((len(source), len(to), 6), dtype=object)
    said[..., [0, 3, 5]] = np.array(to, dtype=object)
    said[..., [1, 2, 4]] = np.array(source, dtype=object)[:, None]
    return said


def _ticks(labels: list[str]) -> dict[str, object]:
    every = max(1, -(-len(labels) // _ALL_NAMED))
    chosen = range(0, len(labels), every)
    return {
        "tickmode": "array",
        "tickvals": list(chosen),
        "ticktext": [escaped(labels[i]) for i in chosen],
        "tickfont": {"size": 11, "family": "monospace"},
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }


def _axis_title(matrix: GradientMatrix, end: str) -> str:
    name = matrix.target_name if end == "to" else matrix.source_name
    return {"logit": "To logits", "token": "From tokens"}.get(name, f"{end.capitalize()} {name}")


def _extent(along: list[str], across: list[str]) -> int:
    """Pixels for a cell of every entry and the labels of the other axis."""
    margin = 140 + _CHARACTER * max((len(label) for label in across), default=0)
    return int(min(_LARGEST, max(_SMALLEST, _CELL * len(along) + margin)))


def _frames(matrix: GradientMatrix, boxes: Sequence[tuple[int, int]]) -> list[dict[str, float]]:
    """Rectangles around the cells of each pair of positions, prompt by prompt."""
    frames = []
    for batch in np.unique(matrix.targets["batch"]):
        for from_position, to_position in boxes:
            spans = [
                np.flatnonzero((part["batch"] == batch) & (part["position"] == position))
                for part, position in (
                    (matrix.targets, to_position),
                    (matrix.sources, from_position),
                )
            ]
            if all(len(span) for span in spans):
                (x0, x1), (y0, y1) = ((span[0] - 0.5, span[-1] + 0.5) for span in spans)
                frames.append({"x0": x0, "x1": x1, "y0": y0, "y1": y1})
    return frames


def _frame_of(matrix: GradientMatrix, chosen: tuple[int, int] | None) -> list[dict[str, float]]:
    if chosen is None:
        return []
    rows, columns = (
        np.flatnonzero(part["number"].to_numpy() == number)
        for part, number in ((matrix.targets, chosen[0]), (matrix.sources, chosen[1]))
    )
    if not len(rows) or not len(columns):
        return []
    x, y = float(rows[0]), float(columns[0])
    return [{"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}]
