"""How is a map made? Its settings, checked, and which of them each part depends on."""

import math
from dataclasses import dataclass
from typing import Any

CLUSTER_DIMENSIONS = 10
"""Dimensions of the layout in which clusters are looked for."""


@dataclass(frozen=True)
class MapConfig:
    """Settings of a map; the metric is always cosine."""

    n_neighbors: int = 15
    """Neighbours that shape the map, each latent itself included; more show more of the whole."""
    min_dist: float = 0.05
    """Least distance between points of the map, 0 to 1."""
    clusters: bool = False
    """Whether to look for clusters as well, in a layout of 10 dimensions."""
    n_neighbors_cluster: int = 15
    """Neighbours that shape the layout for clusters."""
    min_dist_cluster: float = 0.1
    """Least distance between points of the layout for clusters, 0 to 1."""
    min_cluster_size: int = 3
    """Fewest latents that make a cluster; the rest is noise."""
    seed: int = 0
    """The same seed gives the same map, to the bit."""

    def __post_init__(self) -> None:
        for name in ("n_neighbors", "n_neighbors_cluster", "min_cluster_size"):
            _check_whole(name, getattr(self, name), least=2)
        for name in ("min_dist", "min_dist_cluster"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} is {value!r}; use a distance from 0 to 1.")
            object.__setattr__(self, name, float(value))
        _check_whole("seed", self.seed, least=0)
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; use a whole number below 2**32.")

    @property
    def k(self) -> int:
        """Neighbours of each latent that this map needs."""
        return max(self.n_neighbors, self.n_neighbors_cluster if self.clusters else 0)

    @property
    def layout(self) -> dict[str, Any]:
        """What the coordinates of the map depend on, besides the directions."""
        return {
            "n_components": 2,
            "n_neighbors": self.n_neighbors,
            "min_dist": self.min_dist,
            "seed": self.seed,
        }

    @property
    def cluster_layout(self) -> dict[str, Any]:
        """What the layout for clusters depends on, besides the directions."""
        return {
            "n_components": CLUSTER_DIMENSIONS,
            "n_neighbors": self.n_neighbors_cluster,
            "min_dist": self.min_dist_cluster,
            "seed": self.seed,
        }


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; use a whole number from {least} up.")
