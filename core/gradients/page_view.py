"""The view of the page of gradients: what its link carries."""

import json
from dataclasses import dataclass

from core.gradients.circuit_link import Place, read_groups, read_places, write_groups, write_places
from core.link import (
    Link,
    LinkField,
    list_of,
    one_of,
    read_flag,
    read_whole,
    real,
    short_text,
    whole,
    write_flag,
    write_list,
    write_number,
)

TABS = ("latents", "tokens", "logits", "induction", "circuit")
KINDS = ("gradient", "attribution")
ORDERS = ("position", "strength", "clustered")
PAIRS = ("all", "same token", "across tokens")
ERRORS = ("nowhere", "first", "everywhere")
MOST_CHARACTERS = 4000
_HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class GradientView:
    """Everything on the page that a reader can choose."""

    tab: str = "latents"
    """One of `TABS`."""
    prompt: str | None = None
    """Text that the model reads; None for an example."""
    source: str = ""
    """Earlier SAE, as release/sae_id; empty for one that suits the selection."""
    target: str = ""
    """Later SAE; also the SAE of the tabs that need one."""
    k: int = 10
    """Tokens whose logits are explained."""
    kind: str = "gradient"
    """Gradient, or attribution: gradient times activation."""
    freeze_attention: bool = False
    """Whether attention patterns are held."""
    freeze_layer_norm: bool = False
    """Whether scales of LayerNorms are held."""
    keep_error: str = "first"
    """Where the earlier SAE's error stays in place."""
    most: int = 0
    """Strongest latents of each side that are computed; 0 for all."""
    from_positions: tuple[int, ...] = ()
    """Positions of sources that are shown; empty for all."""
    to_positions: tuple[int, ...] = ()
    """Positions of targets that are shown; empty for all."""
    min_size: float = 0.0
    """Smallest absolute value that is shown."""
    top_from: int = 40
    """Strongest sources that are shown."""
    top_to: int = 40
    """Strongest targets that are shown."""
    first_token: bool = False
    """Whether latents of a beginning-of-text token (a sink of attention) are shown."""
    pairs: str = "all"
    """Within tokens, between tokens, or both."""
    pattern: str = ""
    """What names or descriptions must contain."""
    only: bool = False
    """Whether only the chosen latent is shown, at the end where its SAE is."""
    order: str = "position"
    """Order of rows and columns."""
    cell: tuple[int, ...] = ()
    """Chosen cell: position and index of its source, then of its target; empty for none."""
    seed: int = 0
    """Of the random tokens of the induction tab."""
    length: int = 10
    """Number of these tokens."""
    early: str = ""
    """Earlier attention SAE of the induction tab; empty for the one that heads suggest."""
    late: str = ""
    """Later attention SAE."""
    chain: tuple[str, ...] = ()
    """SAEs that a circuit is traced through; empty for a default."""
    end: tuple[int, ...] = ()
    """What a circuit explains: a token id, or position and index of a latent of the last SAE;
    empty for the likeliest next token."""
    hold_attention: bool = True
    """Whether the circuit holds attention patterns."""
    hold_norms: bool = True
    """Whether the circuit holds scales of LayerNorms."""
    node_share: float = 0.6
    """Share of the flow of each layer that the nodes kept must carry."""
    edge_share: float = 0.8
    """Share of the flow between layers that the edges kept must carry."""
    most_nodes: int = 12
    """Most nodes kept in a layer."""
    node: tuple[int, ...] = ()
    """Chosen node of the circuit: layer, position and index; empty for none."""
    pinned: tuple[Place, ...] = ()
    """Pinned nodes of the circuit."""
    groups: tuple[tuple[str, tuple[Place, ...]], ...] = ()
    """Groups of nodes that are drawn as one: name and nodes."""
    only_pinned: bool = False
    """Whether only pinned nodes are drawn, with what flows between them."""


def _read_names(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it is not a list of names.")
    if len(names) > 40:
        raise ValueError(f"it holds {len(names)} names; at most 40 can be used.")
    return tuple(names)


def _read_number(text: str) -> int:
    return read_whole(text, -1, _HIGHEST)


DEFAULT = GradientView()
LINK = Link(
    DEFAULT,
    (
        LinkField("tab", "tab", one_of(TABS)),
        LinkField("prompt", "prompt", short_text(MOST_CHARACTERS)),
        LinkField("source", "from", short_text(300)),
        LinkField("target", "to", short_text(300)),
        LinkField("k", "k", whole(1, 100)),
        LinkField("kind", "kind", one_of(KINDS)),
        LinkField("freeze_attention", "frozen_attention", read_flag, write_flag),
        LinkField("freeze_layer_norm", "frozen_norm", read_flag, write_flag),
        LinkField("keep_error", "error", one_of(ERRORS)),
        LinkField("most", "most", whole(0, 100_000)),
        LinkField("from_positions", "from_at", list_of(_read_number, 512), write_list),
        LinkField("to_positions", "to_at", list_of(_read_number, 512), write_list),
        LinkField("min_size", "least", real(0.0, 1e9), write_number),
        LinkField("top_from", "top_from", whole(1, 150)),
        LinkField("top_to", "top_to", whole(1, 150)),
        LinkField("pairs", "pairs", one_of(PAIRS)),
        LinkField("pattern", "pattern", short_text(200)),
        LinkField("only", "only", read_flag, write_flag),
        LinkField("order", "order", one_of(ORDERS)),
        LinkField("cell", "cell", list_of(_read_number, 4), write_list),
        LinkField("seed", "seed", whole(0, _HIGHEST)),
        LinkField("length", "length", whole(2, 500)),
        LinkField("early", "early", short_text(300)),
        LinkField("late", "late", short_text(300)),
        LinkField("chain", "chain", _read_names, lambda names: json.dumps(list(names))),
        LinkField("end", "end", list_of(_read_number, 2), write_list),
        LinkField("first_token", "first_token", read_flag, write_flag),
        LinkField("hold_attention", "hold_attention", read_flag, write_flag),
        LinkField("hold_norms", "hold_norms", read_flag, write_flag),
        LinkField("node_share", "nodes", real(0.05, 1.0), write_number),
        LinkField("edge_share", "edges", real(0.05, 1.0), write_number),
        LinkField("most_nodes", "most_nodes", whole(1, 60)),
        LinkField("node", "node", list_of(_read_number, 3), write_list),
        LinkField("pinned", "pinned", read_places, write_places),
        LinkField("groups", "groups", read_groups, write_groups),
        LinkField("only_pinned", "only_pinned", read_flag, write_flag),
    ),
)
