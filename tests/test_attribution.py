"""Sources of a latent: the terms add up, and switching a source off takes exactly its term away."""

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.attribution import attribute_to_sources, why_no_sources
from core.models import Model, load_model
from core.models.hooks import cache_sites, hooks_at
from core.saes import encode
from tests.builders import make_sae

HOOK_Z = "blocks.1.attn.hook_z"
PATTERN = "blocks.1.attn.hook_pattern"


def attention_sae(architecture: str, *, hook_name: str = HOOK_Z) -> SAE:
    return make_sae(architecture, d_in=32, d_sae=24, hook_name=hook_name)


def pre_activation(model: Model, sae: SAE, tokens: Tensor, position: int, latent: int) -> float:
    """As sae_lens computes it, read at its own hook."""
    site = sae.cfg.metadata.hook_name
    seen = []
    point = sae.hook_sae_acts_pre
    point.add_hook(lambda acts, hook: seen.append(acts.detach().clone()))
    try:
        encode(sae, cache_sites(model, tokens, [site])[site])
    finally:
        point.remove_hooks("fwd")
    return float(seen[0][0, position, latent])


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "gated"])
def test_terms_add_up_to_the_pre_activation(
    any_model: Model, tiny_tokens: Tensor, architecture: str
) -> None:
    sae, tokens = attention_sae(architecture), tiny_tokens[:1]
    for latent, position in ((0, 8), (5, 3), (23, 0)):
        found = attribute_to_sources(any_model, sae, tokens, latent, position)
        assert found.terms.shape == (4, position + 1)
        exact = pre_activation(any_model, sae, tokens, position, latent)
        assert float(found.terms.sum()) + found.bias == pytest.approx(exact, abs=1e-5)
        assert found.pre_activation == pytest.approx(exact, abs=1e-5)
        site = cache_sites(any_model, tokens, [HOOK_Z])[HOOK_Z]
        acts = encode(sae, site)
        assert found.activation == pytest.approx(float(acts[0, position, latent]), abs=1e-5)
        torch.testing.assert_close(
            found.pattern.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("hook_name", [HOOK_Z, "blocks.1.hook_attn_out"])
def test_switching_a_source_off_takes_its_term_away(
    any_model: Model, tiny_tokens: Tensor, hook_name: str
) -> None:
    sae, tokens = attention_sae("standard", hook_name=hook_name), tiny_tokens[:1]
    latent, position = 3, 7
    found = attribute_to_sources(any_model, sae, tokens, latent, position)
    clean = pre_activation(any_model, sae, tokens, position, latent)
    assert float(found.terms.sum()) + found.bias == pytest.approx(clean, abs=1e-5)
    for head, source in ((0, 0), (2, 4), (3, 7)):

        def off(pattern: Tensor, hook: object, head: int = head, source: int = source) -> Tensor:
            changed = pattern.clone()
            changed[:, head, position, source] = 0
            return changed

        with hooks_at(any_model, [(PATTERN, off)]):
            without = pre_activation(any_model, sae, tokens, position, latent)
        assert clean - without == pytest.approx(float(found.terms[head, source]), abs=1e-5)


def test_grouped_queries(tiny_llama_dir, tiny_tokens: Tensor) -> None:
    model = load_model(tiny_llama_dir, device="cpu")
    sae, tokens = attention_sae("standard"), tiny_tokens[:1]
    found = attribute_to_sources(model, sae, tokens, 2, 6)
    exact = pre_activation(model, sae, tokens, 6, 2)
    assert found.terms.shape == (4, 7)
    assert float(found.terms.sum()) + found.bias == pytest.approx(exact, abs=1e-5)


def test_other_saes_and_bad_input_get_a_sentence(tiny_hooked: Model, tiny_tokens: Tensor) -> None:
    residual = make_sae("standard", d_in=32, d_sae=24, hook_name="blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match="attention heads"):
        attribute_to_sources(tiny_hooked, residual, tiny_tokens[:1], 0, 1)
    normed = make_sae(
        "standard", d_in=32, d_sae=24, hook_name=HOOK_Z, normalize_activations="layer_norm"
    )
    with pytest.raises(ValueError, match="rescales each input"):
        attribute_to_sources(tiny_hooked, normed, tiny_tokens[:1], 0, 1)
    assert "not one linear map" in str(
        why_no_sources(HOOK_Z, architecture="matching_pursuit", normalize="none")
    )
    sae = attention_sae("standard")
    with pytest.raises(ValueError, match="no latent 24"):
        attribute_to_sources(tiny_hooked, sae, tiny_tokens[:1], 24, 1)
    with pytest.raises(ValueError, match="no position 9"):
        attribute_to_sources(tiny_hooked, sae, tiny_tokens[:1], 0, 9)
    with pytest.raises(ValueError, match="one prompt"):
        attribute_to_sources(tiny_hooked, sae, tiny_tokens, 0, 1)


def test_one_token(tiny_hooked: Model, tiny_tokens: Tensor) -> None:
    sae = attention_sae("standard")
    found = attribute_to_sources(tiny_hooked, sae, tiny_tokens[:1, :1], 0, 0)
    exact = pre_activation(tiny_hooked, sae, tiny_tokens[:1, :1], 0, 0)
    assert found.terms.shape == (4, 1)
    assert float(found.terms.sum()) + found.bias == pytest.approx(exact, abs=1e-5)
