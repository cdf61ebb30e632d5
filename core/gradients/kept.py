"""Finished matrices in the store, so that a link opens at once after a restart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.activations import fingerprint_of_model
from core.gradients.descriptions import SaePrint
from core.gradients.matrix import GradientMatrix
from core.gradients.reconstruction import ReconstructionReport, SaeFit
from core.models.hooks import Model
from core.store import ARRAYS, JSON, Key, Store

if TYPE_CHECKING:
    from core.gradients.gradient_request import GradientRequest, GradientResult

_VERSION = 1
_NUMBERS = ("number", "batch", "position", "index", "value")
_TEXTS = ("token", "label")


def key_of(
    request: "GradientRequest",
    model: Model,
    ids: Sequence[int],
    prints: Mapping[str, SaePrint],
) -> Key:
    """What the matrix is computed from: weights, tokens and options, not names."""
    return Key(
        "gradients",
        _VERSION,
        {
            "model": fingerprint_of_model(model),
            "saes": [it.fingerprint for it in prints.values()],
            "tokens": list(ids),
            "tab": request.tab,
            "k": request.k,
            "freeze": [request.freeze_attention, request.freeze_layer_norm],
            "keep_error": request.keep_error,
            "most": request.most,
        },
    )


def save(store: Store, key: Key, result: "GradientResult") -> None:
    """Keep a result."""
    matrix = result.matrix
    ends = {"source": matrix.sources, "target": matrix.targets}
    arrays = {"values": matrix.values}
    arrays |= {f"{end}_{it}": part[it].to_numpy() for end, part in ends.items() for it in _NUMBERS}
    report = result.report
    counts = ("n_true", "n_reconstructed", "n_mismatched")
    words = {
        "ends": {end: {it: part[it].tolist() for it in _TEXTS} for end, part in ends.items()},
        "names": [matrix.target_name, matrix.source_name],
        "tokens": list(result.tokens),
        "fit": _plain(result.fit),
        "report": None
        if report is None
        else {
            **{name: getattr(report, name) for name in counts},
            "source": _plain(report.source),
            "target": _plain(report.target),
        },
        "active": [result.n_sources, result.n_targets],
        "next_tokens": None
        if result.next_tokens is None
        else {name: column.tolist() for name, column in result.next_tokens.items()},
    }
    store.put(key, arrays, ARRAYS)
    store.put(key, words, JSON)


def load(
    store: Store, key: Key, request: "GradientRequest", prints: Mapping[str, SaePrint]
) -> "GradientResult | None":
    """What was kept; None where there is nothing whole."""
    from core.gradients.gradient_request import GradientResult

    arrays: dict[str, np.ndarray] | None = store.get(key, ARRAYS)
    words: Any = store.get(key, JSON)
    if arrays is None or words is None:
        return None
    ends = {
        end: pd.DataFrame({it: arrays[f"{end}_{it}"] for it in _NUMBERS}).assign(
            **{it: pd.Series(words["ends"][end][it], dtype=object) for it in _TEXTS}
        )
        for end in ("source", "target")
    }
    report = words["report"]
    if report is not None:
        fits = {end: _fit(report[end]) for end in ("source", "target")}
        report = ReconstructionReport(**{**report, **fits})
    return GradientResult(
        request=request,
        matrix=GradientMatrix(arrays["values"], ends["target"], ends["source"], *words["names"]),
        tokens=tuple(words["tokens"]),
        report=report,
        fit=_fit(words["fit"]),
        n_sources=words["active"][0],
        n_targets=words["active"][1],
        prints=prints,
        next_tokens=None if words["next_tokens"] is None else pd.DataFrame(words["next_tokens"]),
    )


def _plain(fit: SaeFit) -> dict[str, float | None]:
    """JSON has no word for what is not a number."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(fit).items()}


def _fit(plain: Mapping[str, float | None]) -> SaeFit:
    return SaeFit(**{name: math.nan if it is None else it for name, it in plain.items()})
