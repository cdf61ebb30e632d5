"""A hook counts exactly once, whatever ran on the model before.

The library breaks this when an SAE is attached to a bridge and removed again; the last tests
document that, and show that `hooks_at` does not depend on it.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.models import (
    Model,
    cache_sites,
    hooks_at,
    load_model,
    run_layers,
    run_with_replacements,
)
from core.saes import check_fits, encode, reconstruct

SITE = "blocks.1.hook_resid_pre"
NEXT = "blocks.2.hook_resid_pre"
STEP = 0.25


def cache(model: Model, tokens: Tensor, sae: SAE) -> None:
    cache_sites(model, tokens, [SITE, "blocks.1.attn.hook_z", "blocks.0.hook_mlp_out"])


def cache_with_library(model: Model, tokens: Tensor, sae: SAE) -> None:
    model.run_with_cache(tokens)


def hooked_run(model: Model, tokens: Tensor, sae: SAE) -> None:
    with hooks_at(model, [(SITE, lambda x, hook: 2 * x)]):
        model(tokens)


def hooked_run_that_fails(model: Model, tokens: Tensor, sae: SAE) -> None:
    def fail(x: Tensor, hook: object) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError), hooks_at(model, [(SITE, fail)]):
        model(tokens)
    with pytest.raises(ValueError), hooks_at(model, [(SITE, fail), ("nowhere", fail)]):
        pass


def generation(model: Model, tokens: Tensor, sae: SAE) -> None:
    with hooks_at(model, [(SITE, lambda x, hook: x + 1)]):
        model.generate(tokens[:1], max_new_tokens=2, do_sample=False, verbose=False)


def gradient(model: Model, tokens: Tensor, sae: SAE) -> None:
    start = cache_sites(model, tokens, [SITE])[SITE].requires_grad_(True)
    run_layers(model, start, start_at_layer=1)[0, -1].sum().backward()
    assert start.grad is not None


def reconstruction(model: Model, tokens: Tensor, sae: SAE) -> None:
    run_with_replacements(model, tokens, {SITE: lambda x: reconstruct(sae, x)})


def partial_run(model: Model, tokens: Tensor, sae: SAE) -> None:
    run_with_replacements(model, tokens, {}, stop_at_layer=2)
    check_fits(sae, model)
    encode(sae, cache_sites(model, tokens, [SITE], stop_at_layer=2)[SITE])


OPERATIONS: list[Callable[[Model, Tensor, SAE], None]] = [
    cache,
    cache_with_library,
    hooked_run,
    hooked_run_that_fails,
    generation,
    gradient,
    reconstruction,
    partial_run,
]


def count_of_hook(model: Model, tokens: Tensor) -> float:
    """How often an additive hook counts, measured on the stream after it, one layer up."""
    calls: list[object] = []

    def add(x: Tensor, hook: object) -> Tensor:
        calls.append(hook)
        return x + STEP

    with torch.no_grad():
        plain = cache_sites(model, tokens, [SITE])[SITE]
        with hooks_at(model, [(SITE, add)]):
            moved = cache_sites(model, tokens, [SITE])[SITE]
        assert len(calls) == 1
        with model.hooks(fwd_hooks=[(SITE, add)]):
            model(tokens)
    by_library = len(calls) - 1
    assert by_library == 1
    return float((moved - plain).mean() / STEP)


@pytest.mark.parametrize("seed", range(12))
def test_hook_counts_once_after_any_operations(
    any_model: Model, tiny_tokens: Tensor, tiny_sae: SAE, seed: int
) -> None:
    operations = random.Random(seed).choices(OPERATIONS, k=6)
    untouched = any_model(tiny_tokens)
    for operation in operations:
        operation(any_model, tiny_tokens, tiny_sae)
    assert count_of_hook(any_model, tiny_tokens) == pytest.approx(1, abs=1e-4)
    assert not any(point.fwd_hooks or point.bwd_hooks for point in any_model.hook_dict.values())
    torch.testing.assert_close(any_model(tiny_tokens), untouched, rtol=0, atol=0)


def test_hooks_of_the_caller_stay(any_model: Model, tiny_tokens: Tensor) -> None:
    with hooks_at(any_model, [(SITE, lambda x, hook: x + 1)]):
        outer = cache_sites(any_model, tiny_tokens, [SITE])[SITE]
        with hooks_at(any_model, [(SITE, lambda x, hook: x + 2)]):
            both = cache_sites(any_model, tiny_tokens, [SITE])[SITE]
        any_model.run_with_cache(tiny_tokens)
        again = cache_sites(any_model, tiny_tokens, [SITE])[SITE]
    plain = cache_sites(any_model, tiny_tokens, [SITE])[SITE]
    torch.testing.assert_close(outer - plain, torch.ones_like(plain), atol=1e-4, rtol=0)
    torch.testing.assert_close(both - plain, 3 * torch.ones_like(plain), atol=1e-4, rtol=0)
    assert torch.equal(outer, again)


def test_backward_hooks_are_called_once_and_removed(any_model: Model, tiny_tokens: Tensor) -> None:
    seen: list[Tensor] = []
    start = cache_sites(any_model, tiny_tokens, [SITE])[SITE].requires_grad_(True)

    def keep(gradient: Tensor, hook: object) -> None:
        seen.append(gradient.detach().clone())

    with hooks_at(any_model, [(NEXT, keep)], direction="bwd"):
        run_layers(any_model, start, start_at_layer=1).sum().backward()
    assert [gradient.shape for gradient in seen] == [start.shape]
    run_layers(any_model, start, start_at_layer=1).sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("backend", ["bridge", "hooked"])
def test_hooks_at_counts_once_even_after_an_sae_was_attached(
    backend: str, tiny_gpt2_dir: Path, tiny_tokens: Tensor, tiny_sae: SAE
) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", backend=backend)
    model.run_with_cache_with_saes(tiny_tokens, saes=[tiny_sae])
    plain = cache_sites(model, tiny_tokens, [SITE])[SITE]
    with hooks_at(model, [(SITE, lambda x, hook: x + STEP)]):
        moved = cache_sites(model, tiny_tokens, [SITE])[SITE]
    torch.testing.assert_close(moved - plain, torch.full_like(plain, STEP), atol=1e-4, rtol=0)


def test_library_bug_that_doubles_hooks_is_still_there(
    tiny_gpt2_dir: Path, tiny_tokens: Tensor, tiny_sae: SAE
) -> None:
    """When this fails, sae_lens has fixed it: see whether `hooks_at` can become `model.hooks`."""
    model = load_model(tiny_gpt2_dir, device="cpu", backend="bridge")
    names: list[str] = []
    hooks = [(SITE, lambda x, hook: names.append(hook.name))]
    model.run_with_hooks(tiny_tokens, fwd_hooks=hooks)
    assert names == ["blocks.1.hook_in"]
    with model.saes(saes=[tiny_sae]):
        pass
    names.clear()
    model.run_with_hooks(tiny_tokens, fwd_hooks=hooks)
    assert names == ["hook_in", "blocks.1.hook_in"]


def test_attached_saes_are_reported(
    tiny_gpt2_dir: Path, tiny_tokens: Tensor, tiny_sae: SAE
) -> None:
    for backend in ("bridge", "hooked"):
        model = load_model(tiny_gpt2_dir, device="cpu", backend=backend)
        model.add_sae(tiny_sae)
        with pytest.raises(ValueError, match="reset_saes"):
            cache_sites(model, tiny_tokens, [SITE])
