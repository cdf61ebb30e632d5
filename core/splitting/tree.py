"""The splitting tree: a latent, the parents above it and the children below, SAE by SAE.

Each step goes to the next SAE in width. Upwards there is one parent a step; downwards a node keeps
its strongest children, and says how many more there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.sparse import csr_array

from core.jobs.progress import Progress
from core.splitting.cofiring import MIN_FIRINGS
from core.splitting.decoders import Decoder
from core.splitting.firing_children import DENSE, firing_children, firing_parents
from core.splitting.firing_children import THRESHOLD as FIRING_THRESHOLD
from core.splitting.relatives import THRESHOLD, children, member, parent

ParentOf = Callable[[str, str, int], tuple[int, float] | None]
"""Own SAE, narrower SAE, latent: the parent and the weight of the link, if there is a parent."""
ChildrenOf = Callable[[str, str, int], Sequence[tuple[int, float]]]
"""Own SAE, wider SAE, latent: the children with weights, strongest first."""


@dataclass(frozen=True)
class SplittingTree:
    """Nodes and links between them."""

    nodes: pd.DataFrame
    """`sae`, `sae_width`, `latent_idx`, `level` (0: narrowest SAE of the tree), `parent` (row; -1
    for the top), `weight` of the link to the parent (NaN for the top), `chosen` (True for the
    latent asked for), `n_more` (children that are not shown)."""
    measure: str
    """What the weights are: "cosine", or "share of the parent's activation"."""

    @property
    def edges(self) -> pd.DataFrame:
        """`parent` and `child` (rows of `nodes`) and `weight` of each link."""
        linked = self.nodes[self.nodes["parent"] >= 0]
        return pd.DataFrame(
            {"parent": linked["parent"], "child": linked.index, "weight": linked["weight"]}
        ).reset_index(drop=True)


def cosine_tree(
    family: Mapping[str, Decoder],
    label: str,
    latent: int,
    *,
    threshold: float = THRESHOLD,
    max_children: int = 8,
    max_nodes: int = 24,
    progress: Progress | None = None,
) -> SplittingTree:
    """The tree of a latent by decoder cosine, as `core.splitting.relatives` defines it.

    Args:
        family: the SAEs, narrowest first (as `decoders` gives them); each step goes to the next.
        label: SAE of the latent.
        latent: its index.
        threshold: lowest cosine of a relative.
        max_children: children to keep of each node, the strongest ones.
        max_nodes: nodes to keep in each SAE, the strongest ones, so that it can be drawn.
        progress: counts nodes looked at.

    Raises:
        ValueError: an unknown SAE, a latent without a direction, or a limit below 1.
    """
    member(family, label).direction(latent)

    def parent_of(own: str, narrower: str, latent: int) -> tuple[int, float] | None:
        match, cosine = parent(family[own], family[narrower], latent)
        return (match, cosine) if cosine >= threshold else None

    def children_of(own: str, wider: str, latent: int) -> Sequence[tuple[int, float]]:
        found, cosines = children(family[own], family[wider], latent, threshold=threshold)
        return list(zip(found.tolist(), cosines.tolist(), strict=True))

    widths = {name: decoder.width for name, decoder in family.items()}
    nodes = _grow(widths, label, latent, parent_of, children_of, max_children, max_nodes, progress)
    return SplittingTree(nodes, "cosine")


def firing_tree(
    firings: Mapping[str, csr_array],
    label: str,
    latent: int,
    *,
    threshold: float = FIRING_THRESHOLD,
    min_firings: int = MIN_FIRINGS,
    max_frequency: float = DENSE,
    max_children: int = 8,
    max_nodes: int = 24,
    progress: Progress | None = None,
) -> SplittingTree:
    """The tree of a latent by what fires together, as `core.splitting.firing_children` defines it.

    Weights are the share of the parent's activation at whose positions the child fires too.

    Args:
        firings: activations of each SAE at the same positions, `[n_positions, d_sae]`.
        label: SAE of the latent.
        latent: its index.
        threshold: lowest P(parent fires | child fires).
        min_firings: latents that fire at fewer positions are in no tree.
        max_frequency: latents that fire on a larger share of positions are nobody's parent.
        max_children: as for `cosine_tree`.
        max_nodes: as for `cosine_tree`.
        progress: counts nodes looked at.

    Raises:
        ValueError: an unknown SAE or latent, or a limit below 1.
    """
    ordered = dict(sorted(firings.items(), key=lambda item: item[1].shape[1]))
    if label not in ordered:
        raise ValueError(f"There are no firings of {label!r}; choose of {list(ordered)}.")

    def children_of(own: str, wider: str, latent: int) -> Sequence[tuple[int, float]]:
        table = firing_children(
            *(ordered[own], ordered[wider], latent),
            threshold=threshold,
            min_firings=min_firings,
            max_frequency=max_frequency,
        )
        return list(zip(table["latent_idx"], table["share_of_mass"], strict=True))

    def parent_of(own: str, narrower: str, latent: int) -> tuple[int, float] | None:
        row = firing_parents(
            ordered[narrower],
            ordered[own],
            pd.array([latent]).to_numpy(),
            max_frequency=max_frequency,
        ).iloc[0]
        if row["parent_idx"] < 0:
            return None
        siblings = dict(children_of(narrower, own, int(row["parent_idx"])))
        return (int(row["parent_idx"]), siblings[latent]) if latent in siblings else None

    widths = {name: matrix.shape[1] for name, matrix in ordered.items()}
    if not 0 <= latent < widths[label]:
        raise ValueError(
            f"There is no latent {latent} in {label}; choose 0 to {widths[label] - 1}."
        )
    nodes = _grow(widths, label, latent, parent_of, children_of, max_children, max_nodes, progress)
    return SplittingTree(nodes, "share of the parent's activation")


def _grow(
    widths: Mapping[str, int],
    label: str,
    latent: int,
    parent_of: ParentOf,
    children_of: ChildrenOf,
    max_children: int,
    max_nodes: int,
    progress: Progress | None,
) -> pd.DataFrame:
    if max_children < 1 or max_nodes < 1:
        raise ValueError(
            f"max_children={max_children}, max_nodes={max_nodes}; keep at least one of each."
        )
    names = list(widths)
    place = names.index(label)
    chain: list[tuple[int, float]] = [(latent, float("nan"))]  # upwards, with the link to above
    while place - len(chain) >= 0:
        step = place - len(chain) + 1
        above = parent_of(names[step], names[step - 1], chain[-1][0])
        if above is None:
            break
        chain[-1] = (chain[-1][0], above[1])
        chain.append((above[0], float("nan")))
    top = place - len(chain) + 1
    rows = [
        _node(names[top + level], widths, index, level, level - 1, weight, level == len(chain) - 1)
        for level, (index, weight) in enumerate(reversed(chain))
    ]
    layer = [len(rows) - 1]
    for step in range(place + 1, len(names)):
        found: list[tuple[float, int, int]] = []  # weight, row of the parent, latent
        for row in layer:
            born = children_of(names[step - 1], names[step], int(str(rows[row]["latent_idx"])))
            rows[row]["n_more"] = len(born)
            found += [(weight, row, int(index)) for index, weight in born[:max_children]]
            if progress is not None:
                progress.update(len(rows), unit="nodes", message=f"Children in {names[step]}")
        strongest = sorted(found, key=lambda edge: -edge[0])[:max_nodes]
        layer = []
        for weight, above_row, index in sorted(strongest, key=lambda edge: (edge[1], -edge[0])):
            rows[above_row]["n_more"] = int(str(rows[above_row]["n_more"])) - 1
            layer.append(len(rows))
            rows.append(_node(names[step], widths, index, step - top, above_row, weight, False))
    return pd.DataFrame(rows)


def _node(
    label: str,
    widths: Mapping[str, int],
    latent: int,
    level: int,
    parent_row: int,
    weight: float,
    chosen: bool,
) -> dict[str, object]:
    return {
        "sae": label,
        "sae_width": widths[label],
        "latent_idx": latent,
        "level": level,
        "parent": parent_row,
        "weight": weight,
        "chosen": chosen,
        "n_more": 0,
    }
