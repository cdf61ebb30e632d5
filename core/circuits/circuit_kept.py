"""Traced circuits in the store, so that a link opens at once after a restart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.activations import fingerprint_of_model
from core.circuits.graph import Circuit
from core.gradients.descriptions import SaePrint
from core.models.hooks import Model
from core.store import FRAME, JSON, Key, Store

if TYPE_CHECKING:
    from core.circuits.request import CircuitRequest, CircuitResult

_VERSION = 1


def key_of(
    request: "CircuitRequest",
    model: Model,
    ids: Sequence[int],
    prints: Mapping[str, SaePrint],
) -> Key:
    """What the circuit is traced from: weights, tokens and options, and what its menu says."""
    from core.circuits.request import layer_titles

    return Key(
        "circuit",
        _VERSION,
        {
            "model": fingerprint_of_model(model),
            "saes": [it.fingerprint for it in prints.values()],
            "tokens": list(ids),
            "end": list(request.end),
            "pruning": asdict(request.pruning),
            "freeze": [request.freeze_attention, request.freeze_layer_norm],
            "titles": list(layer_titles(request)),
        },
    )


def save(store: Store, key: Key, result: "CircuitResult") -> None:
    """Keep a circuit."""
    circuit = result.circuit
    for part in ("nodes", "edges"):
        store.put(_part(key, part), getattr(circuit, part), FRAME)
    words = {
        "layers": list(circuit.layers),
        "kept": list(circuit.kept),
        "rest": list(circuit.rest),
        "ids": list(circuit.tokens),
        "tokens": list(result.tokens),
        "labels": list(result.labels),
        "ends": [[list(it.end), it.title] for it in result.ends],
    }
    store.put(key, words, JSON)


def load(
    store: Store, key: Key, request: "CircuitRequest", prints: Mapping[str, SaePrint]
) -> "CircuitResult | None":
    """What was kept; None where there is nothing whole."""
    from core.circuits.request import CircuitResult, EndChoice, layer_titles

    words: Any = store.get(key, JSON)
    nodes: pd.DataFrame | None = store.get(_part(key, "nodes"), FRAME)
    edges: pd.DataFrame | None = store.get(_part(key, "edges"), FRAME)
    if words is None or nodes is None or edges is None:
        return None
    return CircuitResult(
        request=request,
        circuit=Circuit(
            # Parquet has a type of its own for text.
            nodes=nodes.astype({"kind": object}),
            edges=edges,
            layers=tuple(words["layers"]),
            kept=tuple(words["kept"]),
            rest=tuple(words["rest"]),
            tokens=tuple(words["ids"]),
        ),
        tokens=tuple(words["tokens"]),
        labels=tuple(words["labels"]),
        titles=layer_titles(request),
        ends=tuple(EndChoice(tuple(end), title) for end, title in words["ends"]),
        prints=prints,
    )


def _part(key: Key, name: str) -> Key:
    return Key(f"circuit-{name}", key.version, {"of": key.digest})
