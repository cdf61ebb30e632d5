"""Which sites hold attention patterns and norms, and does the model let go of them?"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from core.models.hooks import (
    Model,
    context_length,
    has_hook,
    layer_of_hook,
    run_with_replacements,
)


def pattern_sites(model: Model, first: int, last: int) -> list[str]:
    """Attention patterns of these layers. Raises ValueError where they cannot be held."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(first, last)]
    _check_freezable(model, names, "attention patterns", lambda pattern: pattern * 0.5)
    return names


def scale_sites(model: Model, first: int, last: int, target_site: str) -> list[str]:
    """Scales of every normalisation on the residual stream in these layers.

    Raises ValueError where they cannot be held.
    """
    names = []
    for layer in range(first, last):
        found = [f"blocks.{layer}.{norm}.hook_scale" for norm in ("ln1", "ln2")]
        found += [f"blocks.{layer}.{norm}_post.hook_scale" for norm in ("ln1", "ln2")]
        names += [name for name in found if has_hook(model, name)]
    if layer_of_hook(target_site) is None:
        names += ["ln_final.hook_scale"]
    if last > first or layer_of_hook(target_site) is None:
        _check_freezable(model, names, "LayerNorm scales", lambda scale: scale * 2)
    return names


def _check_freezable(
    model: Model, names: list[str], what: str, change: Callable[[Tensor], Tensor]
) -> None:
    """Raise ValueError unless writing to these sites changes what the model says."""
    advice = f"The {what} of this model cannot be frozen: use them live."
    if any(not has_hook(model, name) for name in names):
        raise ValueError(f"{advice} (It has no {next(n for n in names if not has_hook(model, n))})")
    if not names:
        return
    probe = torch.arange(min(3, context_length(model)), device=next(model.parameters()).device)[
        None
    ]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        plain = run_with_replacements(model, probe, {})
        changed = run_with_replacements(model, probe, {names[-1]: change})
    if torch.allclose(plain, changed, atol=1e-6):
        raise ValueError(f"{advice} (It only reports {names[-1]}, and ignores what is put there.)")
