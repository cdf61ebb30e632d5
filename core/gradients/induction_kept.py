"""What was found of induction, in the store, so that a link opens at once after a restart."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from core.activations import fingerprint_of_model
from core.gradients.descriptions import SaePrint
from core.gradients.induction import BoxShare
from core.gradients.matrix import GradientMatrix
from core.models.hooks import Model
from core.store import ARRAYS, FRAME, JSON, Key, Store

if TYPE_CHECKING:
    from core.gradients.induction_request import HeadsResult, InductionRequest, InductionResult

_VERSION = 1
_FRAMES = ("latents", "partners", "sources", "targets")


def heads_key(model: Model, tokens: Tensor) -> Key:
    """What scores of heads are computed from."""
    parameters = {"model": fingerprint_of_model(model), "tokens": tokens.tolist()}
    return Key("heads", _VERSION, parameters)


def save_heads(store: Store, key: Key, result: "HeadsResult") -> None:
    """Keep the scores and the patterns."""
    patterns = {f"{layer}.{head}": it for (layer, head), it in result.patterns.items()}
    store.put(key, patterns, ARRAYS)
    store.put(key, result.scores, FRAME)
    store.put(key, list(result.tokens), JSON)


def load_heads(store: Store, key: Key) -> "HeadsResult | None":
    """What was kept; None where there is nothing whole."""
    from core.gradients.induction_request import HeadsResult, concerned_heads

    patterns: dict[str, np.ndarray] | None = store.get(key, ARRAYS)
    scores: pd.DataFrame | None = store.get(key, FRAME)
    tokens: Any = store.get(key, JSON)
    if patterns is None or scores is None or tokens is None:
        return None
    titles = concerned_heads(scores)
    if {f"{layer}.{head}" for layer, head in titles} != set(patterns):
        return None
    return HeadsResult(
        scores=scores,
        tokens=tuple(tokens),
        patterns={place: patterns[f"{place[0]}.{place[1]}"] for place in titles},
        titles=titles,
    )


def key_of(model: Model, tokens: Tensor, seed: int, prints: Mapping[str, SaePrint]) -> Key:
    """What induction is found from; the seed also makes the prompts that do not repeat."""
    return Key(
        "induction",
        _VERSION,
        {
            "model": fingerprint_of_model(model),
            "saes": [it.fingerprint for it in prints.values()],
            "tokens": tokens.tolist(),
            "seed": seed,
        },
    )


def save(store: Store, key: Key, result: "InductionResult") -> None:
    """Keep what was found."""
    matrix = result.matrix
    frames = (result.latents, result.partners, matrix.sources, matrix.targets)
    for name, frame in zip(_FRAMES, frames, strict=True):
        store.put(_part(key, name), frame, FRAME)
    store.put(key, {"values": matrix.values}, ARRAYS)
    words = {
        "length": result.length,
        "boxes": [_plain(it) for it in (result.boxes, result.control_boxes)],
        "names": [matrix.target_name, matrix.source_name],
    }
    store.put(key, words, JSON)


def load(
    store: Store, key: Key, request: "InductionRequest", prints: Mapping[str, SaePrint]
) -> "InductionResult | None":
    """What was kept; None where there is nothing whole."""
    from core.gradients.induction_request import InductionResult

    words: Any = store.get(key, JSON)
    arrays: dict[str, np.ndarray] | None = store.get(key, ARRAYS)
    frames = {name: store.get(_part(key, name), FRAME) for name in _FRAMES}
    if words is None or arrays is None or any(frame is None for frame in frames.values()):
        return None
    boxes, control = (
        BoxShare(**{name: float("nan") if it is None else it for name, it in plain.items()})
        for plain in words["boxes"]
    )
    return InductionResult(
        request=request,
        length=words["length"],
        latents=frames["latents"],
        partners=frames["partners"],
        boxes=boxes,
        control_boxes=control,
        matrix=GradientMatrix(
            arrays["values"], frames["targets"], frames["sources"], *words["names"]
        ),
        prints=prints,
    )


def _part(key: Key, name: str) -> Key:
    return Key(f"induction-{name}", key.version, {"of": key.digest})


def _plain(box: BoxShare) -> dict[str, float | None]:
    """JSON has no word for what is not a number."""
    return {name: it if np.isfinite(it) else None for name, it in asdict(box).items()}
