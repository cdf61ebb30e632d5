"""How long does a pass over a text take, before it is begun?

A part of it does not depend on the length of the text: cutting the text into tokens begins with
reading it, and what is found is put in order and kept for every latent.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch

from core.lease import Lease
from core.models.hooks import layer_of_hook
from core.saes import sae_hook_name
from core.store import JSON, Key, Store
from core.urgency import sharing

_SIDE = 512
_USUAL_SECONDS = 0.007
"""Of a product of two matrices of that size where the two figures below were measured."""
_PREPARING, _A_LATENT = 4.0, 2.5e-4
"""Seconds there before the first token, and for each latent after the last one."""
_SHARE_OF_PEAK = 0.3


@dataclass(frozen=True)
class ReadingTime:
    """What a pass takes."""

    fixed: float
    """Seconds for a text of any length."""
    a_token: float
    """Seconds a token."""

    def seconds(self, n_tokens: int) -> float:
        """Of a pass over so many tokens."""
        return self.fixed + n_tokens * self.a_token


def remember_pass(store: Store, sae_fingerprint: str, n_tokens: int, seconds: float) -> None:
    """Note how long the last pass with an SAE took, cutting the text into tokens left out; one that
    went on from an earlier one is told by its taking under half of the time, and not noted."""
    known, alone = _known(store, sae_fingerprint), seconds / sharing()
    if known is None or alone / max(1, n_tokens) > known[1] / known[0] / 2:
        store.put(_key(sae_fingerprint), [float(max(1, n_tokens)), alone], JSON)


@torch.no_grad()
def reading_time(lease: Lease, *, store: Store | None = None) -> ReadingTime:
    """The time of a pass with the lease's first SAE, to within a factor of about two.

    As the last pass that `store` knows of took; else as the sizes tell: two operations a weight and
    token for the layers that run, and for the encoder, at the speed that a product of matrices of
    512 by 512 reaches here now, of which a pass reaches some 30 %.
    """
    with lease.turn() as (model, (sae, *_)):
        cfg, layer = model.cfg, layer_of_hook(sae_hook_name(sae))
        layers = cfg.n_layers if layer is None else min(cfg.n_layers, layer + 1)
        attention = 4 * cfg.d_model * cfg.n_heads * cfg.d_head
        mlp = 3 * cfg.d_model * (getattr(cfg, "d_mlp", None) or 0)
        d_sae = int(sae.cfg.d_sae)
        weights = layers * (attention + mlp) + sae.cfg.d_in * d_sae
        device = next(model.parameters()).device
    matrix = torch.ones(_SIDE, _SIDE, device=device)
    product = min(_seconds(matrix) for _ in range(3))
    slower = max(1.0, product / _USUAL_SECONDS)
    after = slower * _A_LATENT * d_sae
    known = None if store is None else _known(store, lease.sae_fingerprints[0])
    if known is None:
        a_token = 2 * weights / (2 * _SIDE**3 / product * _SHARE_OF_PEAK)
    else:
        n_tokens, alone = known
        seconds = alone * sharing()
        a_token = max(seconds - after, seconds / 2) / n_tokens
    return ReadingTime(slower * _PREPARING + after, a_token)


def _known(store: Store, sae_fingerprint: str) -> tuple[float, float] | None:
    kept: Any = store.get(_key(sae_fingerprint), JSON)
    if isinstance(kept, list) and len(kept) == 2 and all(isinstance(it, float) for it in kept):
        return kept[0], kept[1]
    return None


def _key(sae_fingerprint: str) -> Key:
    return Key("read-seconds", 2, {"sae": sae_fingerprint})


def _seconds(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    (matrix @ matrix).sum().item()
    return max(1e-7, time.perf_counter() - began)
