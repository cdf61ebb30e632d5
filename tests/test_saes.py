"""SAEs: each architecture against its formula, and whether one fits a model."""

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.models import Model, cache_sites, run_with_replacements
from core.saes import (
    check_fits,
    decode,
    encode,
    reconstruct,
    sae_hook_name,
    sae_layer,
)
from core.saes.checks import same_model
from tests.builders import SAE_ARCHITECTURES, make_sae

SITES = [
    "blocks.1.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.1.hook_mlp_out",
    "blocks.1.attn.hook_z",
]
NORMS = ["none", "layer_norm", "constant_norm_rescale"]


def by_formula(sae: SAE, activations: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and reconstruction in plain torch, from the published formula of each kind."""
    config, weights = sae.cfg, dict(sae.named_parameters())
    x = activations.reshape(*activations.shape[:2], config.d_in)
    mean, scale = torch.zeros(1), torch.ones(1)
    if config.normalize_activations == "layer_norm":
        mean, scale = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        x = (x - mean) / (scale + 1e-5)
    elif config.normalize_activations == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / config.d_in**0.5
        x = x / scale
    if config.apply_b_dec_to_input:
        x = x - weights["b_dec"]
    W_enc, kind = weights["W_enc"], config.architecture()
    if kind == "gated":
        magnitude = torch.relu(x @ (W_enc * weights["r_mag"].exp()) + weights["b_mag"])
        latents = magnitude * (x @ W_enc + weights["b_gate"] > 0)
    else:
        before = x @ W_enc + weights["b_enc"]
        latents = torch.relu(before)
        if kind == "jumprelu":
            latents = torch.where(before > weights["threshold"], latents, 0.0)
        if kind == "topk":
            smallest = latents.sort(dim=-1, descending=True).values[..., config.k - 1, None]
            latents = torch.where(latents >= smallest, latents, 0.0)
    output = latents @ weights["W_dec"] + weights["b_dec"]
    return latents, (output * scale + mean).reshape(activations.shape)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("architecture", SAE_ARCHITECTURES)
def test_formula_of_each_architecture_at_each_site(
    architecture: str, site: str, norm: str, any_model: Model, tiny_tokens: Tensor
) -> None:
    sae = make_sae(
        architecture, d_in=32, d_sae=64, hook_name=site, normalize_activations=norm, seed=2
    )
    check_fits(sae, any_model)
    activations = cache_sites(any_model, tiny_tokens, [site])[site]
    latents, output = by_formula(sae, activations)
    fires = (latents > 0).float().mean()
    assert 0.02 < fires < 0.9
    for _ in range(2):
        torch.testing.assert_close(encode(sae, activations), latents, atol=1e-5, rtol=1e-5)
        decoded = decode(sae, latents, like=activations)
        torch.testing.assert_close(decoded, output, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(reconstruct(sae, activations), output, atol=1e-4, rtol=1e-5)
    # sae_lens itself agrees.
    torch.testing.assert_close(sae(activations), output, atol=1e-4, rtol=1e-5)
    # The run with the reconstruction in place is a run with the formula's output there.
    patched = run_with_replacements(any_model, tiny_tokens, {site: lambda x: reconstruct(sae, x)})
    expected = run_with_replacements(any_model, tiny_tokens, {site: output})
    torch.testing.assert_close(patched, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["transcoder", "skip_transcoder"])
def test_transcoders(architecture: str, any_model: Model, tiny_tokens: Tensor) -> None:
    site = "blocks.1.hook_resid_mid"
    sae = make_sae(
        architecture, d_in=32, d_sae=64, hook_name=site, hook_name_out="blocks.1.hook_mlp_out"
    )
    check_fits(sae, any_model)
    x = cache_sites(any_model, tiny_tokens, [site])[site]
    weights = dict(sae.named_parameters())
    latents = torch.relu(x @ weights["W_enc"] + weights["b_enc"])
    output = latents @ weights["W_dec"] + weights["b_dec"]
    torch.testing.assert_close(encode(sae, x), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decode(sae, latents), output, atol=1e-5, rtol=1e-5)
    if architecture == "skip_transcoder":
        output = output + x @ weights["W_skip"].T
    torch.testing.assert_close(reconstruct(sae, x), output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", SAE_ARCHITECTURES)
def test_hook_z_decodes_before_it_encodes(architecture: str) -> None:
    sae = make_sae(architecture, d_in=32, d_sae=64, hook_name="blocks.0.attn.hook_z")
    latents = torch.eye(64)[:3]
    expected = (sae.W_dec[:3] + sae.b_dec).reshape(3, 4, 8)
    with pytest.raises(ValueError, match="d_head"):
        decode(sae, latents)
    with pytest.raises(ValueError, match="5 does not divide"):
        decode(sae, latents, d_head=5)
    torch.testing.assert_close(decode(sae, latents, d_head=8), expected)
    torch.testing.assert_close(decode(sae, latents, like=torch.zeros(4, 8)), expected)
    torch.testing.assert_close(decode(sae, latents, like=torch.zeros(32)), expected.flatten(1))


def test_hook_z_with_heads_flattened_and_left_alone() -> None:
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name="blocks.0.attn.hook_z")
    heads = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    before = dict(vars(sae))
    flat_latents = encode(sae, heads.flatten(2))
    torch.testing.assert_close(encode(sae, heads), flat_latents)
    assert reconstruct(sae, heads).shape == heads.shape
    torch.testing.assert_close(
        reconstruct(sae, heads.flatten(2)), reconstruct(sae, heads).flatten(2)
    )
    assert dict(vars(sae)) == before
    # sae_lens' own methods still work, with other heads than those seen above ...
    assert sae.decode(sae.encode(heads.reshape(2, 5, 2, 16))).shape == (2, 5, 2, 16)
    # ... and so do these once it has switched its reshaping off.
    sae.turn_off_forward_pass_hook_z_reshaping()
    torch.testing.assert_close(encode(sae, heads), flat_latents)
    assert reconstruct(sae, heads).shape == heads.shape


@pytest.mark.parametrize("norm", ["layer_norm", "constant_norm_rescale"])
def test_normalised_saes_need_their_input_to_decode(norm: str) -> None:
    sae = make_sae("topk", d_in=32, d_sae=64, hook_name=SITES[0], normalize_activations=norm)
    first, second = torch.randn(2, 3, 5, 32, generator=torch.Generator().manual_seed(0))
    before = dict(vars(sae))
    latents = encode(sae, first)
    encode(sae, second * 100)
    assert dict(vars(sae)) == before
    with pytest.raises(ValueError, match="like=activations"):
        decode(sae, latents)
    torch.testing.assert_close(decode(sae, latents, like=first), by_formula(sae, first[:])[1])


def test_wrong_width_is_reported() -> None:
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name=SITES[0])
    with pytest.raises(ValueError, match=r"\[2, 16\].*reads 32"):
        encode(sae, torch.zeros(2, 16))
    with pytest.raises(ValueError, match="reads 32"):
        encode(sae, torch.zeros(2, 4, 8))


def test_gradients_flow_and_half_precision_is_cast() -> None:
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name=SITES[0])
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    encode(sae, x).sum().backward()
    fires = (encode(sae, x) > 0).float()
    torch.testing.assert_close(x.grad, fires @ sae.W_enc.T, atol=1e-5, rtol=1e-5)
    assert encode(sae, x.detach().bfloat16()).dtype == torch.float32


def test_site_and_layer() -> None:
    sae = make_sae("standard", d_in=16, d_sae=32, hook_name="blocks.7.attn.hook_z")
    assert sae_hook_name(sae) == "blocks.7.attn.hook_z"
    assert sae_layer(sae) == 7
    sae.cfg.metadata.hook_name = None
    with pytest.raises(ValueError, match="hook_name to metadata"):
        sae_hook_name(sae)


def test_fits(any_model: Model) -> None:
    def sae(d_in: int = 32, hook_name: str = SITES[0], **metadata: object) -> SAE:
        return make_sae("standard", d_in=d_in, d_sae=16, hook_name=hook_name, **metadata)

    check_fits(sae(), any_model)
    check_fits(sae(), any_model, model_name="tiny-gpt2")
    check_fits(sae(model_name="anything"), any_model)
    with pytest.raises(ValueError, match=r"reads 48 numbers .* has 32.*32 at .*attn.hook_z"):
        check_fits(sae(d_in=48), any_model)
    with pytest.raises(ValueError, match=r"reads blocks.7.hook_resid_pre.*layers 0 to 2"):
        check_fits(sae(hook_name="blocks.7.hook_resid_pre"), any_model)
    with pytest.raises(ValueError, match=r"trained on tiny-gpt2, not on gpt2"):
        check_fits(sae(), any_model, model_name="gpt2")
    with pytest.raises(ValueError, match="head 3"):
        check_fits(sae(hook_head_index=3), any_model)
    out = {"hook_name_out": "blocks.0.mlp.hook_post"}
    transcoder = make_sae("transcoder", d_in=32, d_sae=8, hook_name=SITES[0], **out)
    with pytest.raises(ValueError, match=r"writes 32 numbers .*hook_post.* 128"):
        check_fits(transcoder, any_model)


@pytest.mark.parametrize(
    ("trained_on", "used_on", "same", "same_if_strict"),
    [
        ("gpt2-small", "gpt2", True, True),
        ("gpt2-small", "openai-community/gpt2", True, True),
        ("gemma-2b", "google/gemma-2b", True, True),
        ("gemma-2b", "gemma-2b-it", True, False),
        ("google/gemma-2-9b", "gemma-2-9b-it", True, False),
        ("gemma-2b-it", "gemma-2b", False, False),
        ("gemma-2b", "gemma-7b", False, False),
        ("gpt2-small", "gpt2-medium", False, False),
        ("my-model", "someone/My-Model/", True, True),
    ],
)
def test_names_of_one_model(
    trained_on: str, used_on: str, same: bool, same_if_strict: bool
) -> None:
    assert same_model(trained_on, used_on) == same
    assert same_model(trained_on, used_on, allow_instruction_tuned=False) == same_if_strict
