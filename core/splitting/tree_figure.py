"""The splitting tree as a Plotly figure: one column for each SAE, a box for each latent.

Nodes are markers (a Sankey diagram emits no selection), so a click gives `customdata`, the row of
`tree.nodes`. Links are as wide as their weight.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.splitting.colors import Palette, base_layout, palette, width_colors
from core.splitting.hover import as_label, shortened
from core.splitting.tree import SplittingTree

_ROW = 46  # pixels from box to box
_BOX = 0.78  # of a column's width
_LETTER = 5.6  # pixels
_DRAWN_ABOUT = 1100  # pixels that the figure is taken to be wide
_LINK_WIDTHS = (1.0, 2.0, 3.0, 4.5, 6.0)  # pixels

Texts = Mapping[str, Sequence[str]]
"""For each SAE one text a latent; SAEs may be missing."""


def tree_figure(
    tree: SplittingTree,
    *,
    descriptions: Texts | None = None,
    tokens: Texts | None = None,
    frequencies: Mapping[str, Sequence[float]] | None = None,
    dark: bool = False,
) -> go.Figure:
    """The tree, narrowest SAE on the left.

    Args:
        tree: what to draw.
        descriptions: written in the boxes and, in full, under the mouse.
        tokens: boosted tokens `"' a', ' b'"`, written in boxes without a description.
        frequencies: share of positions on which each latent fires, for the text under the mouse.
        dark: for a dark page.

    Raises:
        ValueError: a tree without nodes.
    """
    nodes = tree.nodes
    if nodes.empty:
        raise ValueError("The tree has no nodes; choose a latent.")
    colors = palette(dark=dark)
    y = _rows_of(nodes)
    n_columns = int(nodes["level"].max()) + 1
    height = int((y.max() - y.min() + 1) * _ROW) + 60
    figure = go.Figure(layout=base_layout(colors, height=max(height, 160)))
    for link in _links(tree, y, colors):
        figure.add_trace(link)
    saes = nodes.drop_duplicates("level").sort_values("level")
    shades = width_colors(max(n_columns, 2), colors)
    figure.add_trace(
        go.Scatter(
            x=nodes["level"].to_numpy(np.float32) + np.float32(0.02),
            y=y,
            mode="markers",
            customdata=np.arange(len(nodes), dtype=np.int32),
            marker={
                "size": np.where(nodes["chosen"], 15, 11),
                "color": [shades[level] for level in nodes["level"]],
                "line": {
                    "width": np.where(nodes["chosen"], 3, 0),
                    "color": colors.selected,
                },
            },
            hovertext=_hover_texts(nodes, tree.measure, descriptions, tokens, frequencies),
            hovertemplate="%{hovertext}<extra></extra>",
            unselected={"marker": {"opacity": 1}},
        )
    )
    n_letters = int(_DRAWN_ABOUT / max(n_columns, 2) * _BOX / _LETTER) - 6
    boxes = [
        _box(node, float(y[row]), n_letters, descriptions, tokens, colors)
        for row, node in nodes.iterrows()
    ]
    titles = [
        {
            "x": level,
            "y": float(y.max()) + 0.85,
            "text": f"<b>{_title(str(sae), width)}</b>",
            "showarrow": False,
            "xanchor": "left",
            "font": {"color": colors.text, "size": 12},
        }
        for level, sae, width in zip(saes["level"], saes["sae"], saes["sae_width"], strict=True)
    ]
    hidden = {"visible": False, "fixedrange": True}
    figure.update_layout(
        shapes=[shape for shape, _ in boxes],
        annotations=[label for _, label in boxes] + titles,
        showlegend=False,
        # The mouse may be anywhere on a box, not only on its marker.
        hoverdistance=200,
        clickmode="event+select",
        dragmode=False,
        xaxis={**hidden, "range": [-0.05, max(n_columns, 2) - 1 + _BOX + 0.05]},
        yaxis={**hidden, "range": [float(y.min()) - 0.6, float(y.max()) + 1.2]},
    )
    return figure


def _rows_of(nodes: pd.DataFrame) -> np.ndarray:
    """Height of each node: leaves one below the other, a parent in the middle of its children."""
    children = nodes.groupby("parent").groups
    heights = np.zeros(len(nodes), dtype=np.float32)
    next_leaf = 0

    def place(row: int) -> None:
        nonlocal next_leaf
        below = [int(child) for child in children.get(row, ())]
        for child in below:
            place(child)
        if below:
            heights[row] = (heights[below[0]] + heights[below[-1]]) / 2
        else:
            heights[row] = -next_leaf
            next_leaf += 1

    place(int(nodes.index[nodes["parent"] < 0][0]))
    return heights


def _links(tree: SplittingTree, y: np.ndarray, colors: Palette) -> list[go.Scatter]:
    """Curves from box to box; one trace for each line width, as a trace has only one."""
    edges = tree.edges
    if edges.empty:
        return []
    level = tree.nodes["level"].to_numpy()
    strength = np.clip(edges["weight"].to_numpy(), 0, 1)
    bins = np.minimum((strength * len(_LINK_WIDTHS)).astype(int), len(_LINK_WIDTHS) - 1)
    bend = np.linspace(0, 1, 20)
    ease = (1 - np.cos(np.pi * bend)) / 2
    traces = []
    for thickness in np.unique(bins):
        xs: list[np.ndarray] = []
        ys: list[np.ndarray] = []
        for edge in edges[bins == thickness].itertuples():
            start = level[edge.parent] + _BOX
            end = level[edge.child]
            xs += [start + (end - start) * bend, np.array([np.nan])]
            ys += [y[edge.parent] + (y[edge.child] - y[edge.parent]) * ease, np.array([np.nan])]
        traces.append(
            go.Scatter(
                x=np.concatenate(xs).astype(np.float32),
                y=np.concatenate(ys).astype(np.float32),
                mode="lines",
                line={"width": _LINK_WIDTHS[thickness], "color": colors.faint, "simplify": False},
                opacity=0.6,
                hoverinfo="skip",
            )
        )
    return traces


def _box(
    node: pd.Series,
    y: float,
    n_letters: int,
    descriptions: Texts | None,
    tokens: Texts | None,
    colors: Palette,
) -> tuple[dict[str, object], dict[str, object]]:
    """The box of a node, and the two lines in it."""
    x = float(node["level"])
    more = f"  (+{node['n_more']} not shown)" if node["n_more"] else ""
    weight = "" if np.isnan(node["weight"]) else f" · {node['weight']:.2f}"
    about = _text(descriptions, node) or _text(tokens, node)
    shape = {
        "type": "rect",
        "x0": x,
        "x1": x + _BOX,
        "y0": y - 0.4,
        "y1": y + 0.4,
        "layer": "below",
        "fillcolor": colors.panel,
        "line": {
            "width": 2 if node["chosen"] else 1,
            "color": colors.selected if node["chosen"] else colors.faint,
        },
    }
    label = {
        "x": x,
        "y": y,
        "xshift": 20,
        "xanchor": "left",
        "align": "left",
        "showarrow": False,
        "font": {"size": 11, "color": colors.text},
        "text": f"<b>{node['latent_idx']}</b>{weight}{more}"
        + (f"<br>{as_label(shortened(about, n_letters))}" if about else ""),
    }
    return shape, label


def _hover_texts(
    nodes: pd.DataFrame,
    measure: str,
    descriptions: Texts | None,
    tokens: Texts | None,
    frequencies: Mapping[str, Sequence[float]] | None,
) -> list[str]:
    texts = []
    for _, node in nodes.iterrows():
        lines = [f"<b>{as_label(str(node['sae']))}</b> · latent {node['latent_idx']}"]
        lines += [
            as_label(text) for text in (_text(descriptions, node), _text(tokens, node)) if text
        ]
        if not np.isnan(node["weight"]):
            lines.append(f"{measure}: {node['weight']:.3f}")
        if frequencies is not None and node["sae"] in frequencies:
            share = float(frequencies[node["sae"]][node["latent_idx"]])
            lines.append(f"fires on {share:.3%} of tokens")
        if node["n_more"]:
            lines.append(f"{node['n_more']} more children are not shown")
        texts.append("<br>".join(lines))
    return texts


def _text(texts: Texts | None, node: pd.Series) -> str:
    found = texts.get(node["sae"]) if texts is not None else None
    text = found[node["latent_idx"]] if found is not None else ""
    return text if isinstance(text, str) else ""


def _title(label: str, width: int) -> str:
    """Label and width of an SAE; only the width where that is its label, too."""
    said = f"{width:,} latents"
    return said if label == str(width) else f"{as_label(label)} · {said}"
