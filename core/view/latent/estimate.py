"""How long will reading a text take? Judged from sizes and one multiplication on this machine."""

import time

import torch

from core.engine import Engine
from core.models.hooks import layer_of_hook
from core.saes import sae_hook_name
from core.view.selection import Selection

_SHARE_OF_PEAK = 0.3
_SIDE = 512


@torch.no_grad()
def seconds_for(engine: Engine, selection: Selection, n_tokens: int) -> float:
    """Seconds that a pass over `n_tokens` takes, to within a factor of about two.

    Two operations a weight and token for the layers that run, and for the encoder, at the speed
    that a matrix multiplication of 512 by 512 reaches here, of which a pass reaches some 30 %.
    """
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        cfg, layer = model.cfg, layer_of_hook(sae_hook_name(sae))
        layers = cfg.n_layers if layer is None else min(cfg.n_layers, layer + 1)
        attention = 4 * cfg.d_model * cfg.n_heads * cfg.d_head
        mlp = 3 * cfg.d_model * (getattr(cfg, "d_mlp", None) or 0)
        weights = layers * (attention + mlp) + sae.cfg.d_in * sae.cfg.d_sae
        device = next(model.parameters()).device
    matrix = torch.ones(_SIDE, _SIDE, device=device)
    best = min(_seconds(matrix) for _ in range(3))
    return n_tokens * 2 * weights / (2 * _SIDE**3 / best * _SHARE_OF_PEAK)


def _seconds(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    (matrix @ matrix).sum().item()
    return max(1e-7, time.perf_counter() - began)


def in_words(seconds: float) -> str:
    """A duration as one would say it."""
    if seconds < 20:
        return "some seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
