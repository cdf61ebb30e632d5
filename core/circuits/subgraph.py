"""A part of a circuit: only pinned nodes, and several nodes of a layer as one.

What flows from one pinned node to another through nodes that are not shown is kept: nodes are taken
out one after the other, and each pair of an edge into and an edge out of one becomes an edge past
it. With weights that are activation times gradient, the path u, w, v contributes
`weight(u, w) * weight(w, v) / value(w)` to v, so the sums over all paths stay what they were. Nodes
of one layer do not feed each other, so a group's activation, contributions and influence are the
sums of its members'. (Pinned subgraphs and supernodes as in the interface of Ameisen et al.,
"Circuit Tracing", 2025.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.circuits.graph import LOGIT, Circuit

GROUP = "group"
"""Kind of a node that stands for several."""
Place = tuple[int, int, int]
"""Layer, position and index of a node, by which links name it."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What is drawn of a circuit."""

    circuit: Circuit
    """Its nodes and edges; a group's index is -2 or lower."""
    labels: tuple[str, ...]
    """Name of each node."""
    members: tuple[tuple[int, ...], ...]
    """Rows of the whole circuit that each node stands for."""

    def row_of(self, row: int | None) -> int | None:
        """The node that stands for a row of the whole circuit."""
        return next((at for at, rows in enumerate(self.members) if row in rows), None)


def place_of(circuit: Circuit, row: int) -> Place:
    """How links name a node."""
    node = circuit.nodes.iloc[row]
    return int(node["layer"]), int(node["position"]), int(node["index"])


def rows_of(circuit: Circuit, places: Sequence[Place]) -> tuple[int, ...]:
    """Rows of those places that are in the circuit."""
    found = (circuit.node(*place) for place in places)
    return tuple(row for row in found if row is not None)


def shown_part(
    circuit: Circuit,
    labels: Sequence[str],
    *,
    pinned: Sequence[int] | None = None,
    groups: Sequence[tuple[str, Sequence[int]]] = (),
) -> Shown:
    """The circuit with only its `pinned` rows and its end (None: all), and with `groups` as one.

    Groups are names with rows; rows that are not shown are left out of them, and a group of fewer
    than two rows is none.

    Raises:
        ValueError: a group of nodes of several layers, or with a node that is in another, too.
    """
    kept = list(range(len(circuit.nodes)))
    edges = circuit.edges
    if pinned is not None:
        end = len(circuit.nodes) - 1
        kept = sorted({*pinned, end})
        edges = _edges_between(circuit, kept)
    shown = [(name, [row for row in rows if row in kept]) for name, rows in groups]
    return _grouped(circuit, edges, labels, kept, [(n, rows) for n, rows in shown if len(rows) > 1])


def check_group(circuit: Circuit, rows: Sequence[int]) -> None:
    """Whether these rows can be one node. Raises ValueError with what would be right."""
    layers = {int(circuit.nodes["layer"].iloc[row]) for row in rows}
    if len(rows) < 2:
        raise ValueError(
            f"A group of {len(rows)} stands for nothing new; choose two nodes or more."
        )
    if len(layers) > 1:
        raise ValueError(
            "These nodes are of different layers, and one may feed another; group nodes of one "
            "layer, whose contributions add up."
        )
    if any(circuit.nodes["kind"].iloc[row] == LOGIT for row in rows):
        raise ValueError("The end of the circuit stays on its own; choose other nodes.")


def _edges_between(circuit: Circuit, kept: Sequence[int]) -> pd.DataFrame:
    """Edges between the kept rows, with what flows past them through the others."""
    nodes = circuit.nodes
    value = nodes["value"].to_numpy(dtype=np.float64)
    slope, reach = np.zeros(len(nodes)), np.zeros(len(nodes))
    signed: dict[tuple[int, int], float] = {}
    size: dict[tuple[int, int], float] = {}
    for edge in circuit.edges.itertuples():
        pair, weight = (int(edge.source), int(edge.target)), float(edge.weight)
        if weight == 0:
            continue
        signed[pair], size[pair] = weight, abs(weight)
        slope[pair[1]] = float(edge.influence) / weight
        reach[pair[1]] = float(edge.flow) / abs(weight)
    for row in sorted(set(range(len(nodes))) - set(kept)):
        before = [source for source, target in signed if target == row]
        after = [target for source, target in signed if source == row]
        for source in before:
            for target in after:
                past = signed[source, row] * signed[row, target] / value[row]
                both = size[source, row] * size[row, target] / abs(value[row])
                signed[source, target] = signed.get((source, target), 0.0) + past
                size[source, target] = size.get((source, target), 0.0) + both
        for pair in [pair for pair in signed if row in pair]:
            del signed[pair], size[pair]
    return _table(
        [
            (source, target, weight, weight * slope[target], size[source, target] * reach[target])
            for (source, target), weight in signed.items()
        ]
    )


def _grouped(
    circuit: Circuit,
    edges: pd.DataFrame,
    labels: Sequence[str],
    kept: Sequence[int],
    groups: Sequence[tuple[str, Sequence[int]]],
) -> Shown:
    group_of: dict[int, int] = {}
    for n, (name, rows) in enumerate(groups):
        check_group(circuit, rows)
        twice = [row for row in rows if row in group_of]
        if twice:
            raise ValueError(f"{labels[twice[0]]} is in two groups; take it out of {name!r}.")
        group_of |= dict.fromkeys(rows, n)
    # A group stands where its strongest member stood; the end stays last.
    nodes: list[dict[str, Any]] = []
    members: list[tuple[int, ...]] = []
    names: list[str] = []
    new_row: dict[int, int] = {}
    for row in kept:
        number = group_of.get(row)
        rows = [row] if number is None else list(groups[number][1])
        part = circuit.nodes.iloc[rows]
        strongest = rows[int(part["influence"].abs().to_numpy().argmax())]
        if row != strongest:
            continue
        node = circuit.nodes.iloc[row].to_dict()
        if number is not None:
            node |= {"kind": GROUP, "index": -2 - number}
            node |= {of: float(part[of].sum()) for of in ("value", "influence", "flow")}
        new_row |= dict.fromkeys(rows, len(nodes))
        nodes.append(node)
        members.append(tuple(rows))
        names.append(labels[row] if number is None else groups[number][0])
    moved = edges.assign(source=edges["source"].map(new_row), target=edges["target"].map(new_row))
    summed = moved.groupby(["source", "target"], as_index=False, sort=False).sum()
    part = Circuit(
        nodes=pd.DataFrame(nodes, columns=list(circuit.nodes.columns)),
        edges=summed.sort_values("flow", ascending=False, kind="stable", ignore_index=True),
        layers=circuit.layers,
        kept=circuit.kept,
        rest=circuit.rest,
        tokens=circuit.tokens,
    )
    return Shown(part, tuple(names), tuple(members))


def _table(rows: list[tuple[int, int, float, float, float]]) -> pd.DataFrame:
    columns = ["source", "target", "weight", "influence", "flow"]
    return pd.DataFrame(rows, columns=columns).astype({"source": np.int64, "target": np.int64})
