"""Pinned and grouped nodes of a circuit as a link carries them."""

import json
from collections.abc import Sequence

from core.link import list_of, read_whole

MOST_PINNED, MOST_GROUPS, MOST_NAME = 100, 20, 60
"""What a link may hold: nodes, groups, letters of a group's name."""
_HIGHEST = 2**31 - 1

Place = tuple[int, int, int]
"""Layer, position and index of a node; index -1 is what an SAE leaves unexplained."""


def read_place(text: str) -> Place:
    """A node written as `layer.position.index`. Raises ValueError for anything else."""
    parts = text.split(".")
    if len(parts) != 3:
        raise ValueError(f"{text[:40]!r} is not a node; write layer.position.index.")
    layer, position, index = parts
    return (
        read_whole(layer, 0, 200),
        read_whole(position, 0, 100_000),
        read_whole(index, -1, _HIGHEST),
    )


read_places = list_of(read_place, MOST_PINNED)


def write_places(places: Sequence[Place]) -> str:
    """Nodes between commas."""
    return ",".join(".".join(map(str, place)) for place in places)


def read_groups(text: str) -> tuple[tuple[str, tuple[Place, ...]], ...]:
    """Named groups of nodes. Raises ValueError for anything that `write_groups` does not write."""
    try:
        listed = json.loads(text)
        pairs = [(name, nodes) for name, nodes in listed]
    except (ValueError, TypeError):
        pairs = [(None, None)]
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise ValueError("it is not a list of names with nodes.")
    if len(pairs) > MOST_GROUPS or any(len(name) > MOST_NAME for name, _ in pairs):
        raise ValueError(
            f"at most {MOST_GROUPS} groups with names of at most {MOST_NAME} letters can be used."
        )
    return tuple((name, read_places(nodes)) for name, nodes in pairs)


def write_groups(groups: Sequence[tuple[str, Sequence[Place]]]) -> str:
    """Named groups of nodes as text."""
    return json.dumps([[name, write_places(places)] for name, places in groups])
