"""The Jacobians against plain jacrev of their definitions and against finite differences."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.gradients import (
    latent_to_latent_gradients,
    latent_to_latent_gradients_attn,
    latent_to_logit_gradients,
    token_to_latent_gradients,
)
from core.gradients.ends import KeepError
from core.gradients.route import Route
from core.gradients.to_latents import latent_route, token_route
from core.gradients.to_logits import logit_route
from core.models import NO_PROCESSING, Model, load_model
from core.saes import decode, encode
from tests.builders import SAE_ARCHITECTURES, make_sae
from tests.gradient_references import (
    latent_jacobian,
    logit_jacobian,
    run_hooked,
    token_jacobian,
)

pytestmark = pytest.mark.slow

D_MODEL = 32
PAIRS = {
    "residual": ("blocks.0.hook_resid_pre", "blocks.2.hook_resid_pre"),
    "residual, post": ("blocks.0.hook_resid_post", "blocks.2.hook_resid_post"),
    "middle of a layer": ("blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"),
    "MLP": ("blocks.0.hook_mlp_out", "blocks.2.hook_mlp_out"),
    "attention": ("blocks.0.attn.hook_z", "blocks.2.attn.hook_z"),
    "attention to MLP": ("blocks.1.attn.hook_z", "blocks.1.hook_mlp_out"),
    "MLP to residual": ("blocks.0.hook_mlp_out", "blocks.1.hook_resid_pre"),
    "residual to attention": ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"),
    "one site": ("blocks.1.hook_resid_pre", "blocks.1.hook_resid_pre"),
    "embedding": ("hook_embed", "blocks.1.hook_resid_pre"),
}


def sae_at(site: str, architecture: str = "standard", seed: int = 0, **options: Any) -> SAE:
    return make_sae(
        architecture,
        d_in=D_MODEL,
        d_sae=options.pop("d_sae", 32),
        hook_name=site,
        seed=seed,
        **options,
    )


def in_double(sae: SAE) -> SAE:
    return sae.to(dtype=torch.float64)


@pytest.fixture(scope="module")
def double_model(tiny_gpt2_dir: Path) -> Model:
    """A model in float64, where finite differences are sharp."""
    return load_model(tiny_gpt2_dir, device="cpu", backend="hooked", dtype=torch.float64)


@pytest.fixture(scope="module")
def prompts() -> Tensor:
    """Two prompts of five tokens."""
    tokens = torch.randint(4, 290, (2, 5), generator=torch.Generator().manual_seed(3))
    tokens[:, 0] = 0
    return tokens


def assert_equal(ours: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest entry, and not empty or zero."""
    assert ours.shape == reference.shape
    assert reference.abs().max() > 1e-3
    assert (ours - reference).abs().max() <= tolerance * reference.abs().max()


@pytest.mark.parametrize("keep_error", ["first", "everywhere"])
def test_error_that_is_kept(keep_error: KeepError, any_model: Model, prompts: Tensor) -> None:
    first, second = sae_at("blocks.1.hook_resid_pre"), sae_at("blocks.2.hook_resid_pre", seed=1)
    site = "blocks.1.hook_resid_pre"
    clean, logits = run_hooked(any_model, prompts, {}, [site])
    prev = encode(first, clean[site])
    error = clean[site] - decode(first, prev)
    if keep_error == "first":
        error[:, 1:] = 0

    def later(values: Tensor) -> Tensor:
        base = decode(first, prev.index_put((prev > 0).nonzero(as_tuple=True), values)) + error
        target = "blocks.2.hook_resid_pre"
        return encode(
            second, run_hooked(any_model, prompts, {site: lambda x: base}, [target])[0][target]
        )

    values = prev[prev > 0]
    recon = later(values).detach()
    reference = torch.func.jacrev(lambda it: later(it)[recon > 0])(values)
    ours = latent_to_latent_gradients(prompts, first, second, any_model, keep_error=keep_error)
    assert_equal(ours[0], reference)
    torch.testing.assert_close(ours[3].dense, recon, atol=1e-5, rtol=1e-5)
    if keep_error == "everywhere":
        torch.testing.assert_close(ours[3].dense, ours[2].dense, atol=1e-5, rtol=1e-5)
        one = latent_to_logit_gradients(prompts[:1], first, any_model, 3, keep_error=keep_error)
        torch.testing.assert_close(one[2], logits[0, -1], atol=1e-4, rtol=1e-5)
    with pytest.raises(ValueError, match="Unknown positions"):
        latent_to_latent_gradients(prompts, first, second, any_model, keep_error="last")  # type: ignore[typeddict-item]


def check_latents(tokens: Tensor, sae_from: SAE, sae_to: SAE, model: Model, **options: Any) -> None:
    frozen = options.pop("frozen", ())
    reference, prev, next_, recon = latent_jacobian(tokens, sae_from, sae_to, model, frozen=frozen)
    for mode in ("forward", "reverse"):
        ours = latent_to_latent_gradients(tokens, sae_from, sae_to, model, mode=mode, **options)
        assert_equal(ours[0], reference)
        for sparse, dense in zip(ours[1:], (prev, next_, recon), strict=True):
            torch.testing.assert_close(sparse.dense, dense, atol=1e-5, rtol=1e-5)
            assert torch.equal(sparse.indices, (sparse.dense > 0).argwhere())


ON_A_BRIDGE = ("residual", "residual, post", "attention to MLP", "embedding")
"""A bridge has other names for some sites, and starts elsewhere."""


@pytest.mark.parametrize(
    ("pair", "any_model"),
    [*((pair, "hooked") for pair in PAIRS), *((pair, "bridge") for pair in ON_A_BRIDGE)],
    indirect=["any_model"],
)
def test_sites(pair: str, any_model: Model, prompts: Tensor) -> None:
    sites = PAIRS[pair]
    check_latents(prompts, sae_at(sites[0]), sae_at(sites[1], seed=1), any_model)


@pytest.mark.parametrize("architecture", SAE_ARCHITECTURES)
def test_architectures(architecture: str, tiny_hooked: Model, prompts: Tensor) -> None:
    first = sae_at("blocks.1.hook_resid_pre", architecture)
    check_latents(prompts, first, sae_at("blocks.2.hook_resid_pre", architecture, 1), tiny_hooked)


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("site", ["blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"])
def test_sae_that_normalises(
    normalisation: str, site: str, tiny_hooked: Model, prompts: Tensor
) -> None:
    saes = [
        sae_at(it, "jumprelu", seed, normalize_activations=normalisation)
        for seed, it in enumerate([site, site.replace("1", "2")])
    ]
    check_latents(prompts, *saes, tiny_hooked)


@pytest.mark.parametrize(
    ("architecture", "any_model"),
    [("transcoder", "bridge"), ("skip_transcoder", "hooked")],
    indirect=["any_model"],
)
def test_transcoders(architecture: str, any_model: Model, prompts: Tensor) -> None:
    sites = [
        {
            "hook_name": f"blocks.{i}.ln2.hook_normalized",
            "hook_name_out": f"blocks.{i}.hook_mlp_out",
        }
        for i in (0, 2)
    ]
    first, second = (
        make_sae(architecture, d_in=D_MODEL, d_sae=48, seed=seed, **site)
        for seed, site in enumerate(sites)
    )
    check_latents(prompts, first, second, any_model)
    check_latents(prompts, first, sae_at("blocks.1.hook_resid_post", "topk", 4), any_model)
    ours, reference = (
        latent_to_logit_gradients(prompts[:1], first, any_model)[0],
        logit_jacobian(prompts[:1], first, any_model)[0],
    )
    assert_equal(ours, reference)


@pytest.mark.parametrize(
    ("architecture", "backend"),
    [
        ("llama-processed", "bridge"),
        ("llama-processed", "hooked"),
        ("llama-raw", "hooked"),
        ("gpt2-raw", "bridge"),
    ],
)
def test_other_models(
    architecture: str, backend: str, prompts: Tensor, request: pytest.FixtureRequest
) -> None:
    kind, processing = architecture.split("-")
    flags: dict[str, Any] = NO_PROCESSING if processing == "raw" else {}
    folder = request.getfixturevalue(f"tiny_{kind}_dir")
    model = load_model(folder, device="cpu", backend=backend, **flags)
    first, second = sae_at("blocks.1.hook_resid_pre"), sae_at("blocks.2.attn.hook_z", "gated", 1)
    check_latents(prompts, first, second, model)
    assert_equal(
        latent_to_logit_gradients(prompts[:1], first, model)[0],
        logit_jacobian(prompts[:1], first, model)[0],
    )
    assert_equal(
        token_to_latent_gradients(prompts, first, model)[0],
        token_jacobian(prompts, first, model)[0],
    )


def test_attention_version(any_model: Model, prompts: Tensor) -> None:
    saes = [sae_at(f"blocks.{layer}.attn.hook_z", "topk", layer) for layer in (1, 2)]
    ours = latent_to_latent_gradients_attn(prompts, *saes, any_model)
    assert_equal(ours[0], latent_jacobian(prompts, *saes, any_model)[0])
    with pytest.raises(ValueError, match="latent_to_latent_gradients for it"):
        latent_to_latent_gradients_attn(
            prompts, saes[0], sae_at("blocks.2.hook_mlp_out"), any_model
        )


@pytest.mark.parametrize("option", ["freeze_attention", "freeze_layer_norm"])
def test_frozen_parts(option: str, any_model: Model, prompts: Tensor) -> None:
    if option == "freeze_attention":
        frozen = [f"blocks.{layer}.attn.hook_pattern" for layer in (1, 2)]
    else:
        frozen = [f"blocks.{layer}.ln{i}.hook_scale" for layer in (1, 2) for i in (1, 2)]
    first, second = sae_at("blocks.1.hook_resid_pre"), sae_at("blocks.2.hook_mlp_out", seed=1)
    options = {option: True}
    check_latents(prompts, first, second, any_model, frozen=tuple(frozen), **options)
    live = latent_to_latent_gradients(prompts, first, second, any_model)[0]
    held = latent_to_latent_gradients(prompts, first, second, any_model, **options)[0]
    assert live.shape != held.shape or (live - held).abs().max() > 1e-2
    assert latent_to_latent_gradients(prompts[:, :1], first, second, any_model, **options)[0].any()


@pytest.mark.parametrize(
    ("architecture", "any_model"),
    [("standard", "bridge"), ("topk", "hooked"), ("gated", "hooked")],
    indirect=["any_model"],
)
def test_tokens(architecture: str, any_model: Model, prompts: Tensor) -> None:
    sae = sae_at("blocks.2.hook_resid_pre", architecture)
    reference, acts = token_jacobian(prompts, sae, any_model)
    for mode in ("forward", "reverse"):
        ours, found = token_to_latent_gradients(prompts, sae, any_model, mode=mode)
        assert_equal(ours, reference)
        assert torch.equal(found.indices, (acts > 0).argwhere())


@pytest.mark.parametrize("site", ["blocks.2.hook_resid_pre", "blocks.1.attn.hook_z"])
def test_logits(site: str, any_model: Model, prompts: Tensor) -> None:
    sae = sae_at(site, "jumprelu")
    reference, logits, recon, acts = logit_jacobian(prompts[:1], sae, any_model)
    for k in (None, 5):
        ours = latent_to_logit_gradients(prompts[:1], sae, any_model, k)
        rows = slice(None) if k is None else logits.topk(k).indices
        assert_equal(ours[0], reference[rows])
        torch.testing.assert_close(ours[1], logits, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(ours[2], recon, atol=1e-4, rtol=1e-5)
        assert ours[3] == (None if k is None else rows.tolist())
        assert torch.equal(ours[4].indices, (acts > 0).argwhere())


def check_finite_differences(route: Route, tokens: Tensor) -> None:
    """Central differences of the route's own reading, a sample of sources at a time."""
    gradients, step = route.gradients(), 1e-6
    everything = torch.arange(len(route.base))
    for j in torch.linspace(0, len(route.sources) - 1, 7).long().tolist():
        item, position = route.source_indices[j, :2]
        changed = []
        for sign in (1, -1):
            base = route.base.clone()
            row = route.sources.rows[j].reshape(base[item, position].shape)
            base[item, position] += sign * step * row
            reached = route.segment.run(base, everything)
            at = reached[route.targets.items, route.targets.positions]
            changed.append(route.read(at, route.target_indices[:, 2]))
        slope = (changed[0] - changed[1]) / (2 * step)
        torch.testing.assert_close(gradients[:, j], slope, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("architecture", SAE_ARCHITECTURES)
def test_finite_differences(architecture: str, double_model: Model, prompts: Tensor) -> None:
    first = in_double(sae_at("blocks.0.hook_mlp_out", architecture))
    second = in_double(sae_at("blocks.2.hook_resid_pre", architecture, 1))
    latents = latent_route(prompts, first, second, double_model)
    check_finite_differences(latents.route, prompts)
    check_finite_differences(token_route(prompts, second, double_model).route, prompts)
    route = logit_route(prompts[:1], second, double_model, 9).route
    check_finite_differences(route, prompts[:1])
