"""Trace back: layer by layer from the end, only through the nodes that were kept."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.circuits.graph import LATENT, REST, TOKEN, Circuit, Pruning, Step, carried, most_flow
from core.circuits.steps import LatentEnd, LogitEnd, Nodes, end_node, step_route, token_step
from core.gradients.ends import latent_name
from core.gradients.route import Freezing, Route
from core.gradients.segment import checked_tokens
from core.jobs.progress import Progress
from core.models.hooks import Model
from core.saes import check_fits

_DEFAULT = Pruning()


def trace_circuit(
    tokens: Int[Tensor, "1 pos"],
    saes: Sequence[SAE],
    model: Model,
    end: LogitEnd | LatentEnd,
    *,
    pruning: Pruning = _DEFAULT,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
    progress: Progress | None = None,
) -> Circuit:
    """The circuit that feeds `end`, through `saes`, which are in the order of the model.

    Each SAE feeds only the next one (the last one the logit, the tokens the first one). For SAEs
    of the residual stream that is all there is; what flows past SAEs of attention or MLPs is left
    out. Gradients are taken at the model's own activations.

    Raises:
        ValueError: no SAE, SAEs that do not fit the model or are in the wrong order, more than one
            prompt or one that the model cannot take, or an end that is not active.
        JobCancelled: through `progress`.
    """
    tokens = checked_tokens(model, tokens)
    if len(tokens) != 1:
        raise ValueError(f"There are {len(tokens)} prompts; a circuit is traced for one at a time.")
    if not saes:
        raise ValueError("There is no SAE to trace through; choose at least one.")
    for sae in saes:
        check_fits(sae, model)
    freezing = Freezing(freeze_attention=freeze_attention, freeze_layer_norm=freeze_layer_norm)
    layers = ["tokens", *(latent_name(sae) for sae in saes)]
    # Sources of each step, and what reads them.
    chain = list(saes)
    readers: list[SAE | None] = [*saes]
    if isinstance(end, LatentEnd):
        chain.pop()
    else:
        layers.append("logit")
        readers.append(None)
    kept = end_node(model, tokens, saes[-1], end)
    found, edges, shares, rests = [kept], [], [1.0], [0.0]
    for number in range(len(chain), -1, -1):
        if progress is not None:
            done = len(chain) - number
            progress.update(done, len(chain) + 1, unit="layers", message="Tracing back")
        if number:
            route = step_route(model, tokens, chain[number - 1], readers[number], kept, **freezing)
        else:
            route = token_step(model, tokens, saes[0], kept, **freezing)
        step, targets = _step(route, progress), kept.traced
        (nodes, chosen), (share, rest) = _prune(step, kept, targets, pruning)
        edges.append(_edges(step, kept, targets, chosen, pruning))
        kept = nodes
        found.append(kept)
        shares.append(share)
        rests.append(rest)
    return _assembled(found[::-1], edges[::-1], layers, shares[::-1], rests[::-1], tokens)


def _step(route: Route, progress: Progress | None) -> Step:
    slopes = route.gradients(progress=None)
    if progress is not None:
        progress.check()
    indices = route.source_indices.cpu().numpy()
    kinds = np.where(indices[:, 2] < 0, REST, TOKEN if route.source_name == "token" else LATENT)
    return Step(
        kinds=kinds.astype(object),
        positions=indices[:, 1],
        indices=indices[:, 2],
        values=route.source_values.double().cpu().numpy(),
        slopes=slopes.double().cpu().numpy(),
    )


def _prune(
    step: Step, targets: Nodes, traced: np.ndarray, pruning: Pruning
) -> tuple[tuple[Nodes, np.ndarray], tuple[float, float]]:
    """The nodes kept with their numbers; shares of the flow kept, and left to the rest."""
    slopes, reach = carried(step, targets.slopes[traced], targets.reach[traced])
    flow = np.abs(step.values) * reach
    chosen = np.flatnonzero(most_flow(flow, pruning.node_share, pruning.most_nodes))
    nodes = Nodes(
        step.kinds[chosen],
        step.positions[chosen],
        step.indices[chosen],
        step.values[chosen],
        slopes[chosen],
        reach[chosen],
    )
    total = float(flow.sum()) or 1.0
    shares = float(flow[chosen].sum()) / total, float(flow[step.kinds == REST].sum()) / total
    return (nodes, chosen), shares


def _edges(
    step: Step, targets: Nodes, traced: np.ndarray, chosen: np.ndarray, pruning: Pruning
) -> pd.DataFrame:
    """Edges into the targets from the nodes chosen; numbers are those within each layer."""
    slopes = step.slopes[:, chosen]
    weights = slopes * step.values[chosen]
    flow = np.abs(weights) * targets.reach[traced][:, None]
    kept = most_flow(flow.ravel(), pruning.edge_share).reshape(flow.shape)
    to, source = np.nonzero(kept)
    return pd.DataFrame(
        {
            "source": source,
            "target": traced[to],
            "weight": weights[to, source],
            "influence": weights[to, source] * targets.slopes[traced][to],
            "flow": flow[to, source],
        }
    )


def _assembled(
    found: list[Nodes],
    edges: list[pd.DataFrame],
    layers: list[str],
    shares: list[float],
    rests: list[float],
    tokens: Tensor,
) -> Circuit:
    frames = [nodes.frame.assign(layer=number) for number, nodes in enumerate(found)]
    starts = np.cumsum([0, *(len(frame) for frame in frames)])
    moved = [
        part.assign(source=part["source"] + starts[n], target=part["target"] + starts[n + 1])
        for n, part in enumerate(edges)
    ]
    return Circuit(
        nodes=pd.concat(frames, ignore_index=True),
        edges=pd.concat(moved, ignore_index=True).sort_values(
            "flow", ascending=False, ignore_index=True, kind="stable"
        ),
        layers=tuple(layers),
        kept=tuple(shares),
        rest=tuple(rests),
        tokens=tuple(tokens[0].tolist()),
    )
