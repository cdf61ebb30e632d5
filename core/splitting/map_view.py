"""What of the map a link carries: SAEs, settings, colours, chosen latent, zoom, lasso and search.

Only what differs from the default is in the link, under short readable names. Whatever in a link
cannot be used is replaced by its default, with a sentence that says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

from core.splitting.visible import View

COLOURS = ("width", "cluster", "frequency", "similarity")
SEARCHES = ("text", "regex", "meaning")
"""Substring, regular expression, embedding of the descriptions."""

_LASSO_CORNERS = 64
_SEARCH_LENGTH = 500
_HIGHEST = 2**31 - 1
_LARGEST_COORDINATE = 1e6


@dataclass(frozen=True)
class MapView:
    """A map, and how it is looked at."""

    saes: tuple[str, ...] = ()
    """Labels of the SAEs on the map; none: the page's own choice."""
    n_neighbors: int = 15
    """Neighbours of the 2-D layout."""
    min_dist: float = 0.05
    """Least distance in the 2-D layout."""
    clusters: bool = False
    """Whether clusters are looked for."""
    n_neighbors_cluster: int = 15
    """Neighbours of the 10-D layout."""
    min_dist_cluster: float = 0.1
    """Least distance in the 10-D layout."""
    min_cluster_size: int = 3
    """Least number of latents in a cluster."""
    seed: int = 0
    """Seed of both layouts."""
    hide_dead: bool = False
    """Whether dead latents are left out."""
    colour: str = "width"
    """One of `COLOURS`."""
    chosen: tuple[str, int] | None = None
    """Label and latent of the chosen point."""
    zoom: View | None = None
    """Visible part: x from, x to, y from, y to; None: everything."""
    lasso: tuple[tuple[float, float], ...] = ()
    """Corners of the selected area, at most 64; two corners are those of a rectangle."""
    search: str = ""
    """What is searched for."""
    search_by: str = "text"
    """One of `SEARCHES`."""


@dataclass(frozen=True)
class ParsedView:
    """What a link means here."""

    view: MapView
    """What to show."""
    problems: tuple[str, ...] = ()
    """A sentence for each part of the link that could not be followed."""


DEFAULT = MapView()

_NAMES = {
    "saes": "saes",
    "n_neighbors": "neighbors",
    "min_dist": "dist",
    "clusters": "clusters",
    "n_neighbors_cluster": "cluster_neighbors",
    "min_dist_cluster": "cluster_dist",
    "min_cluster_size": "cluster_size",
    "seed": "seed",
    "hide_dead": "hide_dead",
    "colour": "colour",
    "chosen": "point",
    "zoom": "zoom",
    "lasso": "lasso",
    "search": "search",
    "search_by": "search_by",
}
PARAMETERS = tuple(_NAMES.values())
"""Query parameters that carry a view."""


def with_lasso(view: MapView, x: Sequence[float], y: Sequence[float]) -> MapView:
    """`view` with a lasso through these corners, as few and as rounded as a link can carry.

    Select by the corners of the result (`selection.rows_inside`), so that a link and the page that
    it was copied from agree. Fewer than two corners: no lasso. Raises ValueError for corners that
    are not numbers.
    """
    corners = list(zip(map(float, x), map(float, y), strict=True))
    if not all(_is_coordinate(value) for corner in corners for value in corner):
        raise ValueError("The corners of a lasso must be numbers on the map; draw it again.")
    if len(corners) > _LASSO_CORNERS:
        step = len(corners) / _LASSO_CORNERS
        corners = [corners[int(i * step)] for i in range(_LASSO_CORNERS)]
    rounded = tuple((_rounded(a), _rounded(b)) for a, b in corners)
    return replace(view, lasso=rounded if len(rounded) > 1 else ())


def with_zoom(view: MapView, zoom: View | None) -> MapView:
    """`view` zoomed to a part of the map, rounded as in a link. ValueError for an empty part."""
    if zoom is None:
        return replace(view, zoom=None)
    return replace(view, zoom=_zoom([_rounded(float(value)) for value in zoom]))


def to_parameters(view: MapView) -> dict[str, str]:
    """The query parameters of a link to `view`."""
    written = {
        "saes": ",".join(map(_escaped, view.saes)),
        "n_neighbors": str(view.n_neighbors),
        "min_dist": _number(view.min_dist),
        "clusters": str(int(view.clusters)),
        "n_neighbors_cluster": str(view.n_neighbors_cluster),
        "min_dist_cluster": _number(view.min_dist_cluster),
        "min_cluster_size": str(view.min_cluster_size),
        "seed": str(view.seed),
        "hide_dead": str(int(view.hide_dead)),
        "colour": view.colour,
        "chosen": "" if view.chosen is None else f"{_escaped(view.chosen[0])},{view.chosen[1]}",
        "zoom": ",".join(map(_number, view.zoom or ())),
        "lasso": ",".join(_number(value) for corner in view.lasso for value in corner),
        "search": view.search,
        "search_by": view.search_by,
    }
    changed = {field for field in _NAMES if getattr(view, field) != getattr(DEFAULT, field)}
    return {name: written[field] for field, name in _NAMES.items() if field in changed}


def parse_view(
    parameters: Mapping[str, str], *, widths: Mapping[str, int] | None = None
) -> ParsedView:
    """The view that query parameters describe; missing and unusable ones get a default.

    `widths` is the number of latents of each SAE that can be shown, by label; without it, any label
    is taken as it is.
    """
    readers: dict[str, Callable[[str], Any]] = {
        "saes": lambda text: _saes(text, widths),
        "n_neighbors": lambda text: _whole(text, 2, 1000),
        "min_dist": lambda text: _real(text, 0, 1),
        "clusters": _flag,
        "n_neighbors_cluster": lambda text: _whole(text, 2, 1000),
        "min_dist_cluster": lambda text: _real(text, 0, 1),
        "min_cluster_size": lambda text: _whole(text, 2, 100_000),
        "seed": lambda text: _whole(text, 0, _HIGHEST),
        "hide_dead": _flag,
        "colour": lambda text: _one_of(text, COLOURS),
        "chosen": lambda text: _point(text, widths),
        "zoom": lambda text: _zoom(_coordinates(text)),
        "lasso": _lasso,
        "search": _search,
        "search_by": lambda text: _one_of(text, SEARCHES),
    }
    view, problems = DEFAULT, []
    for field, name in _NAMES.items():
        text = parameters.get(name)
        if not text:
            continue
        try:
            view = replace(view, **{field: readers[field](text)})
        except ValueError as error:
            problems.append(f"{name} in this link cannot be used: {error}")
    if view.chosen is not None and view.saes and view.chosen[0] not in view.saes:
        problems.append(f"point in this link cannot be used: {view.chosen[0]} is not on its map.")
        view = replace(view, chosen=None)
    if view.colour == "cluster" and not view.clusters:
        view = replace(view, clusters=True)  # nothing else can be meant
    return ParsedView(view, tuple(problems))


def _escaped(label: str) -> str:
    return quote(label, safe="/ ", errors="replace")


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _rounded(value: float) -> float:
    # A thousandth of a UMAP unit is far less than a pixel.
    return round(value, 3) + 0.0


def _is_coordinate(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _LARGEST_COORDINATE


def _whole(text: str, low: int, high: int) -> int:
    # int() would also take "1_000", " 7" and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise ValueError(f"{text[:40]!r} is not a whole number from {low} to {high}.")
    return int(text)


def _float(text: str) -> float:
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def _real(text: str, low: float, high: float) -> float:
    value = _float(text)
    if not low <= value <= high:
        raise ValueError(f"{text[:40]!r} is not a number from {low} to {high}.")
    return value


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text[:40]!r} is neither 1 (yes) nor 0 (no).")
    return text == "1"


def _one_of(text: str, names: Sequence[str]) -> str:
    if text not in names:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(names)}.")
    return text


def _saes(text: str, widths: Mapping[str, int] | None) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(unquote(part) for part in text.split(",")))
    unknown = [label for label in labels if widths is not None and label not in widths]
    if unknown:
        raise ValueError(f"there is no SAE {unknown[0][:60]!r} here.")
    return labels


def _point(text: str, widths: Mapping[str, int] | None) -> tuple[str, int]:
    escaped, comma, index = text.rpartition(",")
    label = unquote(escaped)
    if not comma or (widths is not None and label not in widths):
        raise ValueError(f"{text[:60]!r} is not an SAE of this map and a latent.")
    return label, _whole(index, 0, _HIGHEST if widths is None else widths[label] - 1)


def _coordinates(text: str) -> list[float]:
    values = [_float(part) for part in text.split(",")]
    if not all(map(_is_coordinate, values)):
        raise ValueError("it must be numbers between commas.")
    return values


def _zoom(values: Sequence[float]) -> View:
    if len(values) != 4 or not (values[0] < values[1] and values[2] < values[3]):
        raise ValueError("it must be x from, x to, y from, y to.")
    return values[0], values[1], values[2], values[3]


def _lasso(text: str) -> tuple[tuple[float, float], ...]:
    values = _coordinates(text)
    if len(values) % 2 or not 2 <= len(values) // 2 <= _LASSO_CORNERS:
        raise ValueError(f"it must be 2 to {_LASSO_CORNERS} corners.")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _search(text: str) -> str:
    if len(text) > _SEARCH_LENGTH:
        raise ValueError(f"it is longer than {_SEARCH_LENGTH} characters.")
    return text
