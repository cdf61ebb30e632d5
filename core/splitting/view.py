"""What of the map a link carries: SAEs, settings, colours, latent, zoom, lasso, search and panel.

Only what differs from the default is in the link, under short readable names. Whatever in a link
cannot be used is replaced by its default, with a sentence that says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from core.link import (
    Link,
    LinkField,
    one_of,
    read_flag,
    read_float,
    read_ranges,
    read_whole,
    real,
    short_text,
    whole,
    write_flag,
    write_number,
    write_ranges,
)
from core.splitting.visible import View

COLOURS = ("width", "cluster", "frequency", "similarity", "output", "input")
SEARCHES = ("text", "regex", "meaning")
"""Substring, regular expression, embedding of the descriptions."""
PANELS = ("nearest", "tree", "selection", "hits", "clusters", "new", "descriptions", "downloads")
"""What is said about the map below it."""
RELATIONS = ("cosine", "firing")
"""What relates latents in the splitting tree: their directions, or where they fire."""
WAYS = ("examples", "text", "descriptions")
"""What relatives in other SAEs are found through."""

_LASSO_CORNERS = 64
_SEARCH_LENGTH = 500
_HIGHEST = 2**31 - 1
_LARGEST_COORDINATE = 1e6
_MOST_PICKED_CHARACTERS = 4000


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
    """Corners of the selected area, at most 64; two corners are those of a rectangle. For links in
    which `picked` would not fit, and older ones: on another layout they hold other latents."""
    picked: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """The selected latents, ascending, of each SAE by label."""
    search: str = ""
    """What is searched for."""
    search_by: str = "text"
    """One of `SEARCHES`."""
    panel: str = "nearest"
    """One of `PANELS`."""
    related_by: str = "cosine"
    """One of `RELATIONS`."""
    found_through: str = "examples"
    """One of `WAYS`."""


@dataclass(frozen=True)
class ParsedView:
    """What a link means here."""

    view: MapView
    """What to show."""
    problems: tuple[str, ...] = ()
    """A sentence for each part of the link that could not be followed."""


DEFAULT = MapView()


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


def with_picked(view: MapView, latents: Mapping[str, Sequence[int]]) -> MapView:
    """`view` with these latents selected, by the label of their SAE.

    Raises ValueError where they are more than a link can carry.
    """
    picked = tuple((label, tuple(sorted(set(found)))) for label, found in latents.items() if found)
    if len(_write_picked(picked)) > _MOST_PICKED_CHARACTERS:
        raise ValueError("These are more latents than a link can carry.")
    return replace(view, picked=picked, lasso=())


def with_zoom(view: MapView, zoom: View | None) -> MapView:
    """`view` zoomed to a part of the map, rounded as in a link. ValueError for an empty part."""
    if zoom is None:
        return replace(view, zoom=None)
    return replace(view, zoom=_zoom([_rounded(float(value)) for value in zoom]))


def parse_view(
    parameters: Mapping[str, str], *, widths: Mapping[str, int] | None = None
) -> ParsedView:
    """The view that query parameters describe; missing and unusable ones get a default.

    `widths` is the number of latents of each SAE that can be shown, by label; without it, any label
    is taken as it is.
    """
    view, found = _link(widths).parse(parameters)
    problems = list(found)
    if view.chosen is not None and view.saes and view.chosen[0] not in view.saes:
        problems.append(f"point in this link cannot be used: {view.chosen[0]} is not on its map.")
        view = replace(view, chosen=None)
    if view.colour == "cluster" and not view.clusters:
        view = replace(view, clusters=True)  # nothing else can be meant
    return ParsedView(view, tuple(problems))


def _link(widths: Mapping[str, int] | None) -> Link[MapView]:
    neighbors, distance = whole(2, 1000), real(0, 1)
    return Link(
        DEFAULT,
        [
            LinkField("saes", "saes", lambda text: _saes(text, widths), _write_saes),
            LinkField("n_neighbors", "neighbors", neighbors),
            LinkField("min_dist", "dist", distance, write_number),
            LinkField("clusters", "clusters", read_flag, write_flag),
            LinkField("n_neighbors_cluster", "cluster_neighbors", neighbors),
            LinkField("min_dist_cluster", "cluster_dist", distance, write_number),
            LinkField("min_cluster_size", "cluster_size", whole(2, 100_000)),
            LinkField("seed", "seed", whole(0, _HIGHEST)),
            LinkField("hide_dead", "hide_dead", read_flag, write_flag),
            LinkField("colour", "colour", one_of(COLOURS)),
            LinkField("chosen", "point", lambda text: _point(text, widths), _write_point),
            LinkField("zoom", "zoom", lambda text: _zoom(_coordinates(text)), _write_zoom),
            LinkField("lasso", "lasso", _lasso, _write_lasso),
            LinkField("picked", "in_lasso", lambda text: _picked(text, widths), _write_picked),
            LinkField("search", "search", short_text(_SEARCH_LENGTH)),
            LinkField("search_by", "search_by", one_of(SEARCHES)),
            LinkField("panel", "panel", one_of(PANELS)),
            LinkField("related_by", "related", one_of(RELATIONS)),
            LinkField("found_through", "through", one_of(WAYS)),
        ],
    )


def _write_saes(labels: Sequence[str]) -> str:
    return ",".join(map(_escaped, labels))


def _write_point(point: tuple[str, int] | None) -> str:
    return "" if point is None else f"{_escaped(point[0])},{point[1]}"


def _write_zoom(zoom: View | None) -> str:
    return ",".join(map(write_number, zoom or ()))


def _write_lasso(corners: Sequence[tuple[float, float]]) -> str:
    return ",".join(write_number(value) for corner in corners for value in corner)


def _write_picked(picked: Sequence[tuple[str, Sequence[int]]]) -> str:
    return ";".join(f"{_escaped(label)}:{write_ranges(found)}" for label, found in picked)


def _escaped(label: str) -> str:
    return quote(label, safe="/ ", errors="replace")


def _rounded(value: float) -> float:
    # A thousandth of a UMAP unit is far less than a pixel.
    return round(value, 3) + 0.0


def _is_coordinate(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _LARGEST_COORDINATE


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
    return label, read_whole(index, 0, _HIGHEST if widths is None else widths[label] - 1)


def _picked(text: str, widths: Mapping[str, int] | None) -> tuple[tuple[str, tuple[int, ...]], ...]:
    if len(text) > _MOST_PICKED_CHARACTERS:
        raise ValueError("it holds more latents than a link can carry.")
    found: dict[str, tuple[int, ...]] = {}
    for part in text.split(";"):
        escaped, colon, listed = part.rpartition(":")
        label = unquote(escaped)
        if not colon or (widths is not None and label not in widths):
            raise ValueError(f"{part[:60]!r} is not an SAE of this map and latents.")
        # An SAE whose width is not known takes any number.
        highest = _HIGHEST if widths is None or not widths[label] else widths[label] - 1
        found[label] = read_ranges(listed, 0, highest)
    return tuple(found.items())


def _coordinates(text: str) -> list[float]:
    values = [read_float(part) for part in text.split(",")]
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


LINK = _link(None)
"""How a view is written into a link."""
PARAMETERS = LINK.parameters
"""Query parameters that carry a view."""


def to_parameters(view: MapView) -> dict[str, str]:
    """The query parameters of a link to `view`."""
    return LINK.to_parameters(view)
