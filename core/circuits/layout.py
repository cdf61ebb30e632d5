"""Where the nodes of a circuit stand, in pixels: no two labels overlap, empty positions take none.

Nodes of one layer and position share a cell. A cell is as many labels wide as the page has room for
and as high as it must be; positions of the prompt without any node have no column at all.
"""

import unicodedata
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

LABEL_WIDTH, LABEL_HEIGHT = 150, 36
"""Pixels that a node takes with the two lines beside it."""
MOST_LETTERS = 23
"""Narrow letters that fit beside a node, at the size of the labels."""
_BETWEEN = 14
_ROOM = 800


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of nodes, columns and layers."""

    places: Float[np.ndarray, "n 2"]
    """x and y of each node, in pixels from the left and from the bottom."""
    positions: tuple[int, ...]
    """Positions of the prompt that have nodes, from left to right."""
    columns: Float[np.ndarray, " n_positions"]
    """Left end of each of their columns."""
    layers: Float[np.ndarray, " n_layers"]
    """Middle of each layer."""
    width: float
    """Of all columns."""
    height: float
    """Of all layers."""


def lay_out(nodes: pd.DataFrame, n_layers: int, *, room: int = _ROOM) -> Layout:
    """The layout of a circuit's nodes, at most `room` pixels wide unless positions need more."""
    counts = nodes.groupby(["layer", "position"]).size()
    positions = sorted({int(position) for _, position in counts.index})
    fullest = {place: int(counts.xs(place, level="position").max()) for place in positions}
    across = _across(fullest, room)
    lefts, left = {}, 0.0
    for position in positions:
        lefts[position] = left
        left += across[position] * LABEL_WIDTH + _BETWEEN
    middles, bottom = np.zeros(n_layers), 0.0
    places = np.zeros((len(nodes), 2))
    for layer in range(n_layers):
        here = nodes[nodes["layer"] == layer]
        sizes = here.groupby("position").size()
        rows = max((-(-int(n) // across[int(at)]) for at, n in sizes.items()), default=1)
        for position, cell in here.groupby("position"):
            wide = across[int(position)]
            numbers = np.arange(len(cell))
            own = -(-len(cell) // wide)
            at = cell.index.to_numpy()
            places[at, 0] = lefts[int(position)] + numbers % wide * LABEL_WIDTH
            # From the top of the layer down, in the middle where the cell has fewer rows.
            down = numbers // wide + (rows - own) / 2
            places[at, 1] = bottom + (rows - 1 - down + 0.5) * LABEL_HEIGHT
        middles[layer] = bottom + rows * LABEL_HEIGHT / 2
        bottom += rows * LABEL_HEIGHT + 2 * _BETWEEN
    return Layout(
        places=places,
        positions=tuple(positions),
        columns=np.array([lefts[position] for position in positions]),
        layers=middles,
        width=left,
        height=bottom,
    )


def cut_label(text: str, most: int = MOST_LETTERS) -> str:
    """`text` in one line that fits beside a node; letters of double width count twice."""
    line, used = "", 0
    for letter in " ".join(text.split()):
        used += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if used > most:
            return line[:-1].rstrip() + "…"
        line += letter
    return line


def _across(fullest: dict[int, int], room: int) -> dict[int, int]:
    """Labels side by side in each position's column: more where most nodes stand, while it fits."""
    across = dict.fromkeys(fullest, 1)
    used = len(fullest) * (LABEL_WIDTH + _BETWEEN)
    while across and used + LABEL_WIDTH <= room:
        position = max(across, key=lambda at: (-(-fullest[at] // across[at]), -at))
        if fullest[position] <= across[position]:
            break
        across[position] += 1
        used += LABEL_WIDTH
    return across
