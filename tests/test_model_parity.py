"""The bridge against two other implementations: HookedSAETransformer and plain transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jacrev
from transformers import AutoModelForCausalLM

from core.models import (
    NO_PROCESSING,
    Model,
    cache_sites,
    hooks_at,
    load_model,
    run_layers,
    run_with_replacements,
)

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Largest difference allowed: float32 sums in another order, on values up to about 40."""

BLOCK_SITES = [
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_z",
    "attn.hook_pattern",
    "attn.hook_attn_scores",
    "ln1.hook_scale",
    "ln1.hook_normalized",
    "ln2.hook_scale",
    "mlp.hook_pre",
    "mlp.hook_post",
]
PAIRS = ["gpt2-processed", "gpt2-raw", "llama-processed", "llama-raw"]
SITES = ["hook_embed", "ln_final.hook_scale"]
SITES += [f"blocks.{layer}.{site}" for layer in range(3) for site in BLOCK_SITES]


def assert_same(left: Tensor, right: Tensor) -> None:
    assert left.shape == right.shape
    finite = torch.isfinite(left)
    assert torch.equal(finite, torch.isfinite(right))
    torch.testing.assert_close(left[finite], right[finite], atol=TOLERANCE, rtol=1e-5)


def pair_of(name: str, request: pytest.FixtureRequest) -> tuple[Model, Model]:
    architecture, processing = name.split("-")
    folder = request.getfixturevalue(f"tiny_{architecture}_dir")
    flags: dict[str, Any] = NO_PROCESSING if processing == "raw" else {}
    bridge = load_model(folder, device="cpu", backend="bridge", **flags)
    return bridge, load_model(folder, device="cpu", backend="hooked", **flags)


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Model, Model]:
    """The two model classes with the same weights and processing."""
    return pair_of(request.param, request)


def test_logits(pair: tuple[Model, Model], tiny_tokens: Tensor) -> None:
    bridge, hooked = pair
    assert_same(bridge(tiny_tokens), hooked(tiny_tokens))


def test_every_common_site(pair: tuple[Model, Model], tiny_tokens: Tensor) -> None:
    bridge, hooked = pair
    ours, theirs = (cache_sites(model, tiny_tokens, SITES) for model in pair)
    _, reference = hooked.run_with_cache(tiny_tokens)
    _, bridged = bridge.run_with_cache(tiny_tokens)
    for site in SITES:
        assert_same(ours[site], theirs[site])
        assert_same(ours[site], reference[site])
        assert_same(bridged[site], reference[site])


def test_weights(pair: tuple[Model, Model]) -> None:
    bridge, hooked = pair
    for name in ("W_U", "W_E", "W_O", "W_Q", "W_K", "W_V", "W_in", "W_out"):
        ours, theirs = getattr(bridge, name), getattr(hooked, name)
        if name in ("W_K", "W_V"):
            # With grouped queries the bridge keeps one matrix a group, the other one a head.
            ours = ours.repeat_interleave(theirs.shape[1] // ours.shape[1], dim=1)
        assert_same(ours, theirs)


def test_additive_hook(pair: tuple[Model, Model], tiny_tokens: Tensor) -> None:
    direction = torch.linspace(-1, 1, 32)
    hook = [("blocks.1.hook_resid_pre", lambda x, hook: x + direction)]
    results = []
    for model in pair:
        with hooks_at(model, hook):
            results.append(model(tiny_tokens))
        assert (results[-1] - model(tiny_tokens)).abs().max() > 0.01
    assert_same(*results)


@pytest.mark.parametrize("site", ["blocks.1.attn.hook_z", "blocks.0.hook_mlp_out"])
def test_replacement(pair: tuple[Model, Model], tiny_tokens: Tensor, site: str) -> None:
    shape = cache_sites(pair[0], tiny_tokens, [site])[site].shape
    new = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    results = [run_with_replacements(model, tiny_tokens, {site: new}) for model in pair]
    assert_same(*results)
    flat = run_with_replacements(pair[0], tiny_tokens, {site: new.flatten(2)})
    torch.testing.assert_close(flat, results[0], rtol=0, atol=0)
    assert not torch.allclose(flat, pair[0](tiny_tokens), atol=0.01)


@pytest.mark.parametrize("stop", [None, 2, 3])
def test_start_and_stop_at_layer(
    pair: tuple[Model, Model], tiny_tokens: Tensor, stop: int | None
) -> None:
    residual = cache_sites(pair[0], tiny_tokens, ["blocks.1.hook_resid_pre"])
    residual_1 = residual["blocks.1.hook_resid_pre"] + 0.5
    bridge, hooked = (
        run_layers(model, residual_1, start_at_layer=1, stop_at_layer=stop) for model in pair
    )
    assert_same(bridge, hooked)
    site = "blocks.2.hook_resid_pre" if stop == 2 else "blocks.2.hook_resid_post"
    if stop is not None:
        # Independent of run_layers: the ordinary run with the stream replaced at that layer.
        with hooks_at(pair[1], [("blocks.1.hook_resid_pre", lambda x, hook: residual_1)]):
            assert_same(bridge, cache_sites(pair[1], tiny_tokens, [site])[site])


@pytest.mark.parametrize("stop", [1, 3])
def test_run_with_replacements_stops(
    pair: tuple[Model, Model], tiny_tokens: Tensor, stop: int
) -> None:
    new = {"blocks.0.hook_resid_pre": torch.ones(2, 9, 32)}
    results = [run_with_replacements(m, tiny_tokens, new, stop_at_layer=stop) for m in pair]
    assert results[0].shape == (2, 9, 32)
    assert_same(*results)


def test_gradient_through_a_site(pair: tuple[Model, Model], tiny_tokens: Tensor) -> None:
    site = "blocks.1.hook_resid_pre"
    values = cache_sites(pair[0], tiny_tokens, [site])[site]
    gradients = []
    for model in pair:
        variable = values.clone().requires_grad_(True)
        logits = run_with_replacements(model, tiny_tokens, {site: variable})
        (gradient,) = torch.autograd.grad(logits[:, -1, 7].sum(), variable)
        gradients.append(gradient)
    assert gradients[0].abs().max() > 0.01
    assert_same(*gradients)


def test_jacobian_agrees_with_finite_differences(
    pair: tuple[Model, Model], tiny_tokens: Tensor
) -> None:
    site = "blocks.1.hook_resid_pre"
    base = cache_sites(pair[0], tiny_tokens[:1, :4], [site])[site]
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))

    def output(step: Tensor, model: Model) -> Tensor:
        moved = base + step[:, None] * direction
        return run_layers(model, moved, start_at_layer=1, stop_at_layer=3)[0, -1]

    zero = torch.zeros(1)
    jacobians = [jacrev(output)(zero, model)[:, 0] for model in pair]
    assert_same(*jacobians)
    step = torch.tensor([1e-2])
    difference = (output(step, pair[0]) - output(-step, pair[0])) / 0.02
    torch.testing.assert_close(jacobians[0], difference, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("with_hook", [False, True])
def test_greedy_generation(pair: tuple[Model, Model], tiny_tokens: Tensor, with_hook: bool) -> None:
    direction = 3 * torch.linspace(-1, 1, 32)
    hooks = [("blocks.1.hook_resid_pre", lambda x, hook: x + direction)] if with_hook else []
    texts = []
    for model in pair:
        with hooks_at(model, hooks):
            texts.append(
                model.generate(
                    tiny_tokens[:1],
                    max_new_tokens=12,
                    do_sample=False,
                    stop_at_eos=False,
                    verbose=False,
                )
            )
    assert texts[0].shape == (1, 21)
    assert torch.equal(*texts)
    # By hand, without a key-value cache.
    tokens = tiny_tokens[:1]
    for _ in range(12):
        with hooks_at(pair[0], hooks), torch.no_grad():
            tokens = torch.cat([tokens, pair[0](tokens)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(tokens, texts[0])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_raw_bridge_against_transformers(
    architecture: str, request: pytest.FixtureRequest, tiny_tokens: Tensor
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{architecture}_dir")
    reference = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = reference(tiny_tokens, output_hidden_states=True)
    bridge = load_model(folder, device="cpu", **NO_PROCESSING)
    assert_same(bridge(tiny_tokens), expected.logits)
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(3)]
    for layer, site in enumerate(sites):
        found = cache_sites(bridge, tiny_tokens, [site])[site]
        assert_same(found, expected.hidden_states[layer])


def test_processing_keeps_predictions_and_centres(
    tiny_model: Model, tiny_gpt2_dir: Path, tiny_tokens: Tensor
) -> None:
    raw = load_model(tiny_gpt2_dir, device="cpu", **NO_PROCESSING)
    probabilities = [model(tiny_tokens).log_softmax(-1) for model in (raw, tiny_model)]
    assert_same(*probabilities)
    site = "blocks.2.hook_resid_pre"
    processed, unprocessed = (
        cache_sites(model, tiny_tokens, [site])[site] for model in (tiny_model, raw)
    )
    assert processed.mean(-1).abs().max() < 1e-4
    assert unprocessed.mean(-1).abs().max() > 0.01
    only_folded = load_model(tiny_gpt2_dir, device="cpu", center_writing_weights=False)
    assert_same(cache_sites(only_folded, tiny_tokens, [site])[site], unprocessed)
