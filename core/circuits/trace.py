"""Trace back: layer by layer from the end, only through the nodes that were kept.

A layer feeds every later one that it reaches without passing an SAE of the residual stream: all
that flows there is told by that SAE. SAEs of attention or MLPs are flowed past, so what lies before
them also feeds what lies behind them; their own sites are held meanwhile, so that no path is
counted twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.circuits.graph import (
    LATENT,
    REST,
    TOKEN,
    Circuit,
    Pruning,
    Step,
    gradient_through_step,
    most_flow,
)
from core.circuits.steps import LatentEnd, LogitEnd, Nodes, end_node, step_route
from core.gradients.ends import latent_name
from core.gradients.prompt import checked_tokens
from core.gradients.route import Freezing, Route
from core.gradients.to_latents import EMBEDDING_SUM
from core.jobs.progress import Progress
from core.lease import Lease
from core.models.hooks import Model, resolve_hook_name
from core.saes import check_fits, head_of, sae_hook_name
from core.saes.writes import written_site

_DEFAULT = Pruning()
_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")


def trace_circuit(
    lease: Lease,
    tokens: Int[Tensor, "1 pos"],
    end: LogitEnd | LatentEnd,
    *,
    pruning: Pruning = _DEFAULT,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
) -> Circuit:
    """The circuit that feeds `end`, through the lease's SAEs, which are in the order of the model.

    Gradients are taken at the model's own activations, a layer a turn.

    Raises:
        ValueError: no SAE, SAEs that do not fit the model or are in the wrong order, more than one
            prompt or one that the model cannot take, or an end that is not active.
        JobCancelled: through the lease's progress.
    """
    freezing = Freezing(freeze_attention=freeze_attention, freeze_layer_norm=freeze_layer_norm)
    tracing: _Tracing | None = None
    while tracing is None or not tracing.is_done:
        with lease.turn() as (model, saes):
            if tracing is None:
                tracing = _Tracing(tokens, saes, model, end, pruning, freezing)
            tracing.go_on(model, saes, lease.progress)
    return tracing.circuit()


class _Tracing:
    """A circuit that is traced a layer at a time; holds on to no model in between."""

    def __init__(
        self,
        tokens: Int[Tensor, "1 pos"],
        saes: Sequence[SAE],
        model: Model,
        end: LogitEnd | LatentEnd,
        pruning: Pruning,
        freezing: Freezing,
    ) -> None:
        """Only the end is there yet; for arguments and errors see `trace_circuit`."""
        tokens = checked_tokens(model, tokens)
        if len(tokens) != 1:
            raise ValueError(
                f"There are {len(tokens)} prompts; a circuit is traced for one at a time."
            )
        if not saes:
            raise ValueError("There is no SAE to trace through; choose at least one.")
        for sae in saes:
            check_fits(sae, model)
            if head_of(sae) is not None:
                # Held at its clean values, the site would also cut the paths through other heads.
                raise ValueError(
                    f"A circuit is traced through whole sites, and the SAE at {sae_hook_name(sae)} "
                    f"reads head {head_of(sae)} alone; choose SAEs of whole sites."
                )
        self._tokens, self._pruning, self._freezing = tokens, pruning, freezing
        sites = [EMBEDDING_SUM, *(written_site(sae) for sae in saes)]
        self._sites = [resolve_hook_name(model, site) for site in sites]
        self._is_stream = [site.endswith(_STREAM) for site in sites]
        self._layers = ["tokens", *(latent_name(sae) for sae in saes)]
        if isinstance(end, LogitEnd):
            self._layers.append("logit")
        last = len(self._layers) - 1
        self._kept = {last: end_node(model, tokens, saes[-1], end)}
        self._edges: list[pd.DataFrame] = []
        self._shares, self._rests = {last: 1.0}, {last: 0.0}

    @property
    def is_done(self) -> bool:
        """Whether the tokens have been reached."""
        return 0 in self._kept

    def go_on(self, model: Model, saes: Sequence[SAE], progress: Progress) -> None:
        """One layer further back; `model` and `saes` are those it began with."""
        layer = min(self._kept) - 1
        total = len(self._layers) - 1
        progress.update(len(self._kept) - 1, total, unit="layers", message="Tracing back")
        parts = []
        for to in self._reached(layer):
            parts.append((_step(self._route(layer, to, model, saes)), to))
            progress.check()
        if not parts:
            self._kept[layer] = _NOBODY
            self._shares[layer] = self._rests[layer] = 0.0
            return
        step = Step(
            kinds=parts[0][0].kinds,
            positions=parts[0][0].positions,
            indices=parts[0][0].indices,
            values=parts[0][0].values,
            slopes=np.concatenate([part.slopes for part, _ in parts]),
        )
        targets = _Fed.of([(to, self._kept[to]) for _, to in parts])
        self._keep(layer, step, targets)

    def circuit(self) -> Circuit:
        """What was found; only whole once it is done."""
        order = range(len(self._layers))
        frames = [self._kept[layer].frame.assign(layer=layer) for layer in order]
        starts = np.cumsum([0, *(len(frame) for frame in frames)])
        edges = pd.concat(self._edges[::-1], ignore_index=True)
        for side in ("source", "target"):
            edges[side] += starts[edges.pop(f"{side}_layer").to_numpy(np.int64)]
        return Circuit(
            nodes=pd.concat(frames, ignore_index=True),
            edges=edges.sort_values("flow", ascending=False, ignore_index=True, kind="stable"),
            layers=tuple(self._layers),
            kept=tuple(self._shares[layer] for layer in order),
            rest=tuple(self._rests[layer] for layer in order),
            tokens=tuple(self._tokens[0].tolist()),
        )

    def _reached(self, layer: int) -> Iterator[int]:
        """Later layers with nodes that this one feeds past the SAEs in between."""
        for to in range(layer + 1, len(self._layers)):
            if len(self._kept[to].traced):
                yield to
            if to < len(self._sites) and (
                self._is_stream[to] or self._sites[to] == self._sites[layer]
            ):
                return

    def _route(self, layer: int, to: int, model: Model, saes: Sequence[SAE]) -> Route:
        between = self._sites[layer + 1 : to]
        return step_route(
            model,
            self._tokens,
            saes[layer - 1] if layer else None,
            saes[to - 1] if to <= len(saes) else None,
            self._kept[to],
            hold=list(dict.fromkeys(site for site in between if site != self._sites[layer])),
            **self._freezing,
        )

    def _keep(self, layer: int, step: Step, targets: "_Fed") -> None:
        """Keep the nodes of a layer that carry most, and the edges from them."""
        pruning = self._pruning
        slopes, reach = gradient_through_step(step, targets.slopes, targets.reach)
        flow = np.abs(step.values) * reach
        chosen = np.flatnonzero(most_flow(flow, pruning.node_share, pruning.most_nodes))
        total = float(flow.sum()) or 1.0
        self._shares[layer] = float(flow[chosen].sum()) / total
        self._rests[layer] = float(flow[step.kinds == REST].sum()) / total
        self._kept[layer] = Nodes(
            step.kinds[chosen],
            step.positions[chosen],
            step.indices[chosen],
            step.values[chosen],
            slopes[chosen],
            reach[chosen],
        )
        weights = step.slopes[:, chosen] * step.values[chosen]
        flow = np.abs(weights) * targets.reach[:, None]
        to, source = np.nonzero(most_flow(flow.ravel(), pruning.edge_share).reshape(flow.shape))
        self._edges.append(
            pd.DataFrame(
                {
                    "source": source,
                    "source_layer": layer,
                    "target": targets.numbers[to],
                    "target_layer": targets.layers[to],
                    "weight": weights[to, source],
                    "influence": weights[to, source] * targets.slopes[to],
                    "flow": flow[to, source],
                }
            )
        )


@dataclass(frozen=True)
class _Fed:
    """Kept nodes of one or several layers that a layer feeds."""

    layers: Int[np.ndarray, " n"]
    """Layer of each."""
    numbers: Int[np.ndarray, " n"]
    """Number of each within its layer."""
    slopes: Float[np.ndarray, " n"]
    """As in `Nodes`."""
    reach: Float[np.ndarray, " n"]
    """As there."""

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Nodes]]) -> "_Fed":
        """Those that something feeds, layer after layer."""
        traced = [nodes.traced for _, nodes in parts]
        pairs = list(zip(parts, traced, strict=True))
        return cls(
            np.concatenate([np.full(len(nodes_here), layer) for (layer, _), nodes_here in pairs]),
            np.concatenate(traced),
            np.concatenate([nodes.slopes[nodes_here] for (_, nodes), nodes_here in pairs]),
            np.concatenate([nodes.reach[nodes_here] for (_, nodes), nodes_here in pairs]),
        )


_NONE = np.zeros(0)
_NOBODY = Nodes(
    _NONE.astype(object), _NONE.astype(np.int64), _NONE.astype(np.int64), _NONE, _NONE, _NONE
)


def _step(route: Route) -> Step:
    slopes = route.gradients()
    indices = route.source_indices.cpu().numpy()
    kinds = np.where(indices[:, 2] < 0, REST, TOKEN if route.source_name == "token" else LATENT)
    return Step(
        kinds=kinds.astype(object),
        positions=indices[:, 1],
        indices=indices[:, 2],
        values=route.source_values.double().cpu().numpy(),
        slopes=slopes.double().cpu().numpy(),
    )
