"""The graph of a circuit: its nodes and edges, what they carry, and which of them are kept.

All is taken at the model's own activations: each SAE's latents and what they leave over (its error
and its bias) add up to what stands at its site. The weight of an edge is activation times gradient:
what the source contributes to the target's pre-activation, to first order. A *path* from a node to
the end has as its weight the node's activation times the gradients along it, and a node's or an
edge's *flow* is the sum of the absolute weights of all paths that lead from it (through it) to the
end. The nodes (edges) with the most flow are kept, so no path is lost that outweighs what was cut
(cf. the pruning of attribution graphs in Ameisen et al., "Circuit Tracing", 2025, and the error
nodes of Marks et al., "Sparse Feature Circuits", 2024).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

TOKEN, LATENT, REST, LOGIT = "token", "latent", "rest", "logit"
"""Kinds of nodes; "rest" is what an SAE's latents leave over at a position."""


@dataclass(frozen=True)
class Pruning:
    """How much of a circuit is kept."""

    node_share: float = 0.6
    """Share of a layer's flow that the nodes kept carry, unless there would be too many."""
    edge_share: float = 0.8
    """The same of the edges between kept nodes of two layers."""
    most_nodes: int = 12
    """Most nodes of a layer."""

    def __post_init__(self) -> None:
        for name, share in (("node", self.node_share), ("edge", self.edge_share)):
            if not 0 < share <= 1:
                raise ValueError(f"The {name} share is {share}; use a share above 0 and up to 1.")
        if self.most_nodes < 1:
            raise ValueError(f"{self.most_nodes} nodes a layer leave nothing; keep 1 or more.")


@dataclass(frozen=True, eq=False)
class Circuit:
    """A pruned graph from tokens over SAEs to its end."""

    nodes: pd.DataFrame
    """A row a node: layer (0 for tokens, then the SAEs, last the end), kind, position, index
    (latent or token id; -1 for the rest), value (activation), influence (activation times the
    gradient of the end along all kept paths), flow."""
    edges: pd.DataFrame
    """A row an edge: source, target (rows of nodes), weight (contribution to the target's
    pre-activation), influence (its share of the end's value), flow."""
    layers: tuple[str, ...]
    """Name of each layer, first "tokens"."""
    kept: tuple[float, ...]
    """Share of its flow that each layer's kept nodes carry."""
    rest: tuple[float, ...]
    """Share of each layer's flow that comes from what the SAE's latents leave over."""
    tokens: tuple[int, ...]
    """Ids of the prompt's tokens."""

    def node(self, layer: int, position: int, index: int) -> int | None:
        """Row of a node; None where it was not kept."""
        nodes = self.nodes
        found = np.flatnonzero(
            (nodes["layer"] == layer) & (nodes["position"] == position) & (nodes["index"] == index)
        )
        return int(found[0]) if len(found) else None


@dataclass(frozen=True, eq=False)
class Step:
    """What every node of one layer does to the kept nodes of the next."""

    kinds: np.ndarray
    """Kind of each source."""
    positions: Int[np.ndarray, " n"]
    """Position of each source."""
    indices: Int[np.ndarray, " n"]
    """Latent or token of each source; -1 for the rest."""
    values: Float[np.ndarray, " n"]
    """Activation of each source."""
    slopes: Float[np.ndarray, "n_to n"]
    """Gradient of each kept target with respect to each source."""


def gradient_through_step(
    step: Step, slopes_on: Float[np.ndarray, " n_to"], reach: Float[np.ndarray, " n_to"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Gradient of the end with respect to each source, and the same along paths in absolute value.

    `slopes_on` and `reach` are these two of the targets.
    """
    return slopes_on @ step.slopes, reach @ np.abs(step.slopes)


def most_flow(
    flow: Float[np.ndarray, " n"], share: float, most: int | None = None
) -> Bool[np.ndarray, " n"]:
    """The fewest entries that carry `share` of all flow, at most `most`; zeros never."""
    kept = np.zeros(len(flow), dtype=bool)
    total = float(flow.sum())
    if total <= 0:
        return kept
    order = np.argsort(-flow, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(flow[order])[:-1]])
    chosen = order[(before < share * total * (1 - 1e-9)) & (flow[order] > 0)]
    kept[chosen[:most]] = True
    return kept
