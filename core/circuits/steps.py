"""One step back: from the kept nodes of a layer to everything that feeds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.circuits.graph import LATENT, LOGIT, REST
from core.gradients.ends import (
    decoder_entries,
    latent_name,
    latents_at,
    reader_of,
    rows_read,
)
from core.gradients.jacobian import Entries
from core.gradients.route import Route
from core.gradients.segment import LOGIT_SITE, open_segment
from core.gradients.to_latents import EMBEDDING_SUM
from core.gradients.to_logits import Unembedding
from core.models.hooks import Model
from core.saes import encode, sae_hook_name, sae_inputs
from core.saes.writes import written_site


@dataclass(frozen=True)
class LogitEnd:
    """The logit of a token after the last position."""

    token_id: int | None = None
    """The token; None for the likeliest."""


@dataclass(frozen=True)
class LatentEnd:
    """A latent of the last SAE."""

    position: int
    """Position in the prompt."""
    latent: int
    """Which latent; it must be active there."""


@dataclass(frozen=True)
class Nodes:
    """Nodes of one layer that were kept."""

    kinds: np.ndarray
    """Kind of each."""
    positions: Int[np.ndarray, " n"]
    """Position of each."""
    indices: Int[np.ndarray, " n"]
    """Latent or token of each; -1 for the rest."""
    values: Float[np.ndarray, " n"]
    """Activation of each."""
    slopes: Float[np.ndarray, " n"]
    """Gradient of the end with respect to each, along kept paths."""
    reach: Float[np.ndarray, " n"]
    """The same with the absolute value of every path."""

    @property
    def frame(self) -> pd.DataFrame:
        """A row a node, as in `Circuit.nodes`."""
        return pd.DataFrame(
            {
                "kind": pd.Series(self.kinds, dtype=object),
                "position": self.positions,
                "index": self.indices,
                "value": self.values,
                "influence": self.values * self.slopes,
                "flow": np.abs(self.values) * self.reach,
            }
        )

    @property
    def traced(self) -> np.ndarray:
        """Numbers of the nodes that something feeds: those the SAE's rest stands for do not."""
        return np.flatnonzero(self.kinds != REST)


@torch.no_grad()
def step_route(
    model: Model,
    tokens: Int[Tensor, "1 pos"],
    sae_from: SAE | None,
    sae_to: SAE | None,
    targets: Nodes,
    *,
    hold: Sequence[str] = (),
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
) -> Route:
    """From all latents of an SAE, and what they leave over, to nodes of a later one.

    Without `sae_from` from the scales of the tokens' embeddings, without `sae_to` to logits. The
    source site holds the model's own activations. The rest at each position is one source. Sites
    of `hold` keep their clean values, for what passes through them is traced through their SAEs.
    """
    site = EMBEDDING_SUM if sae_from is None else written_site(sae_from)
    also = [] if sae_from is None else [sae_hook_name(sae_from)]
    with torch.inference_mode(False):
        segment, clean = open_segment(
            model,
            tokens,
            site,
            LOGIT_SITE if sae_to is None else sae_hook_name(sae_to),
            freeze_attention=freeze_attention,
            freeze_layer_norm=freeze_layer_norm,
            hold=hold,
            also_cache=also,
        )
        base = clean["source"]
        if sae_from is None:
            starts = _token_sources(tokens, base)
        else:
            starts = _latent_sources(sae_from, base, clean[also[0]])
        return Route(
            segment=segment,
            base=base,
            **starts,
            **_targets(model, sae_to, clean["target"], targets),
        )


class _Sources(TypedDict):
    sources: Entries
    source_indices: Tensor
    source_values: Tensor
    source_name: str


def _token_sources(tokens: Tensor, embeddings: Tensor) -> _Sources:
    places = torch.arange(tokens.shape[1], device=embeddings.device)
    items = places * 0
    return {
        "sources": Entries(items, places, embeddings[0]),
        "source_indices": torch.stack([items, places, tokens[0].to(places)], dim=-1),
        "source_values": embeddings.new_ones(len(places)),
        "source_name": "token",
    }


def _latent_sources(sae: SAE, base: Tensor, read: Tensor) -> _Sources:
    acts = latents_at(sae, read)
    _, latents = decoder_entries(sae, acts, read)
    written = torch.zeros_like(base).flatten(2).to(latents.rows)
    written.index_put_(
        (latents.items, latents.positions),
        latents.rows * acts.sparse[0][:, None].to(latents.rows),
        accumulate=True,
    )
    n_pos = base.shape[1]
    places = torch.arange(n_pos, device=base.device)
    rest = torch.stack([places * 0, places, places * 0 - 1], dim=-1)
    return {
        "sources": Entries(
            torch.cat([latents.items, places * 0]),
            torch.cat([latents.positions, places]),
            torch.cat([latents.rows, (base.flatten(2).to(written) - written)[0]]),
        ),
        "source_indices": torch.cat([acts.sparse[1], rest]),
        "source_values": torch.cat([acts.sparse[0], acts.sparse[0].new_ones(n_pos)]),
        "source_name": latent_name(sae),
    }


class _Targets(TypedDict):
    targets: Entries
    target_indices: Tensor
    target_values: Tensor
    target_name: str
    read: Callable[[Tensor, Tensor], Tensor]


def _targets(model: Model, sae: SAE | None, clean: Tensor, nodes: Nodes) -> _Targets:
    """The targets' part of a route, of the nodes that something feeds."""
    traced = nodes.traced
    device = clean.device
    positions = torch.tensor(nodes.positions[traced], dtype=torch.long, device=device)
    indices = torch.tensor(nodes.indices[traced], dtype=torch.long, device=device)
    items = torch.zeros_like(positions)
    values = torch.tensor(nodes.values[traced], device=device)
    read: Callable[[Tensor, Tensor], Tensor]
    if sae is None:
        head = Unembedding(model)
        rows = head.rows(indices, head(clean[0, -1:])[0])
        read, name = head.read, "logit"
    else:
        rows = rows_read(sae, clean[0, positions], indices)
        read, name = reader_of(sae), latent_name(sae)
    return {
        "targets": Entries(items, positions, rows),
        "target_indices": torch.stack([items, positions, indices], dim=-1),
        "target_values": values.to(rows),
        "target_name": name,
        "read": read,
    }


def end_node(model: Model, tokens: Tensor, sae: SAE, end: LogitEnd | LatentEnd) -> Nodes:
    """The node to trace from. Raises ValueError for one that is not there or not active."""
    if isinstance(end, LogitEnd):
        with torch.no_grad():
            logits = model(tokens, return_type="logits")[0, -1]
        token = int(logits.argmax()) if end.token_id is None else end.token_id
        if not 0 <= token < len(logits):
            raise ValueError(f"Token {token} is not in the vocabulary of {len(logits)}.")
        return _one(LOGIT, tokens.shape[1] - 1, token, float(logits[token]))
    if not 0 <= end.position < tokens.shape[1] or not 0 <= end.latent < sae.cfg.d_sae:
        raise ValueError(
            f"There is no latent {end.latent} at position {end.position} of {tokens.shape[1]}."
        )
    with torch.no_grad():
        read = sae_inputs(model, sae, tokens)
        value = float(encode(sae, read[:, end.position])[0, end.latent])
    if value <= 0:
        raise ValueError(
            f"Latent {end.latent} is not active at position {end.position}, so nothing feeds it; "
            "choose one that is."
        )
    return _one(LATENT, end.position, end.latent, value)


def _one(kind: str, position: int, index: int, value: float) -> Nodes:
    return Nodes(
        np.array([kind], dtype=object),
        np.array([position]),
        np.array([index]),
        np.array([value]),
        np.ones(1),
        np.ones(1),
    )
