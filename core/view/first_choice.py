"""Which release and which SAE of it does somebody see who has chosen neither?

How often SAEs are used is in no list. What people use is known by what it has: it reads the
residual stream, covers the layers, has a public dashboard for each of its SAEs, says how good it
is, and is neither very narrow nor very wide.
"""

import math
from collections.abc import Sequence

from core.catalog.entries import ReleaseEntry, SaeEntry
from core.view.choices import Choices

USUAL_WIDTH = 24_576
"""Width that most published dashboards are near."""
_USUAL_L0 = 70.0


def first_release(choices: Choices, model: str) -> ReleaseEntry:
    """The release that a model opens on: one on this machine, else the one to begin with.

    Raises ValueError where no release can be used with the model.
    """
    releases = choices.releases_for(model)
    if not releases:
        raise ValueError(f"there is no SAE for {model}; choose another model.")
    local = [release for release in releases if release.source != "hub"]
    if local:
        return local[0]
    return max(releases, key=lambda it: _worth(choices.saes_for(it.release, model)))


def first_sae(entries: Sequence[SaeEntry]) -> SaeEntry:
    """The SAE of a release, given sorted by layer, to begin with: of the residual stream if it has
    that, in a middle layer, and of those the one with a dashboard and a usual width."""
    stream = _stream(entries) or list(entries)
    shown = [entry for entry in stream if entry.neuronpedia_id is not None] or stream
    layers = sorted({_layer(entry) for entry in shown})
    of_layer = [entry for entry in shown if _layer(entry) == layers[len(layers) // 2]]
    if of_layer[0].source != "hub":
        return of_layer[len(of_layer) // 2]
    return min(of_layer, key=_unusual)


def _worth(entries: Sequence[SaeEntry]) -> tuple[int, int, float, float]:
    """How well a release suits a first look; the largest is shown."""
    stream = _stream(entries)
    if not stream:
        return 0, 0, 0.0, _nearest_width(entries)
    shown = {_layer(entry) for entry in stream if entry.neuronpedia_id is not None}
    told = sum(bool(entry.l0) for entry in stream) / len(stream)
    layers = len({_layer(entry) for entry in stream})
    return len(shown), layers, told, _nearest_width(stream)


def _stream(entries: Sequence[SaeEntry]) -> list[SaeEntry]:
    return [it for it in entries if it.kind == "sae" and "resid" in (it.hook_name or "")]


def _layer(entry: SaeEntry) -> int:
    return -1 if entry.layer is None else entry.layer


def _nearest_width(entries: Sequence[SaeEntry]) -> float:
    return max(-_from_usual(entry) for entry in entries)


def _from_usual(entry: SaeEntry) -> float:
    return math.inf if not entry.width else abs(math.log(entry.width / USUAL_WIDTH))


def _unusual(entry: SaeEntry) -> tuple[float, float, str]:
    l0 = math.inf if not entry.l0 else abs(math.log(entry.l0 / _USUAL_L0))
    return _from_usual(entry), l0, entry.sae_id
