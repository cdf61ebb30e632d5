"""Finding a model's sites, reading them and writing to them."""

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from core.models import (
    Model,
    cache_sites,
    has_hook,
    hook_width,
    hooks_at,
    layer_of_hook,
    resolve_hook_name,
    run_layers,
    run_with_replacements,
    site_shape,
)

SITE = "blocks.1.hook_resid_pre"


def test_resolve_hook_name(tiny_model: Model, tiny_hooked: Model) -> None:
    assert resolve_hook_name(tiny_model, SITE) == "blocks.1.hook_in"
    assert resolve_hook_name(tiny_model, "blocks.1.hook_in") == "blocks.1.hook_in"
    assert resolve_hook_name(tiny_hooked, SITE) == SITE
    assert has_hook(tiny_model, SITE)
    assert not has_hook(tiny_model, "blocks.3.hook_resid_pre")


@pytest.mark.parametrize(
    ("hook_name", "message"),
    [
        ("blocks.1.hook_residpre", "blocks.1.hook_resid_pre"),
        ("blocks.3.hook_resid_pre", "layers 0 to 2"),
        ("nothing like it", "hook_dict"),
    ],
)
def test_unknown_site(any_model: Model, hook_name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_hook_name(any_model, hook_name)


@pytest.mark.parametrize(
    ("hook_name", "shape"),
    [
        ("hook_embed", (32,)),
        (SITE, (32,)),
        ("blocks.2.hook_resid_post", (32,)),
        ("blocks.0.hook_mlp_out", (32,)),
        ("blocks.0.mlp.hook_post", (128,)),
        ("blocks.0.attn.hook_z", (4, 8)),
        ("blocks.0.ln1.hook_normalized", (32,)),
    ],
)
def test_site_shape(any_model: Model, hook_name: str, shape: tuple[int, ...]) -> None:
    assert site_shape(any_model, hook_name) == shape
    assert hook_width(any_model, hook_name) == (shape[0] if len(shape) == 1 else 32)


def test_sites_without_a_vector_a_position(any_model: Model) -> None:
    with pytest.raises(ValueError, match="one vector a position"):
        hook_width(any_model, "blocks.0.attn.hook_pattern")


def test_sites_that_would_not_fire(any_model: Model, tiny_tokens: Tensor) -> None:
    with pytest.raises(ValueError, match=r"set_use_attn_result\(True\)"):
        cache_sites(any_model, tiny_tokens, ["blocks.0.attn.hook_result"])


def test_layer_of_hook() -> None:
    assert layer_of_hook("blocks.11.attn.hook_z") == 11
    assert layer_of_hook("blocks.3.hook_in") == 3
    assert layer_of_hook("hook_embed") is None
    assert layer_of_hook("ln_final.hook_scale") is None


def test_cache_sites(any_model: Model, tiny_tokens: Tensor) -> None:
    names = ["blocks.2.hook_resid_post", SITE, "blocks.0.attn.hook_z", SITE]
    _, reference = any_model.run_with_cache(tiny_tokens)
    cache = cache_sites(any_model, tiny_tokens, names)
    assert list(cache) == names[:3]
    for name, values in cache.items():
        assert not values.requires_grad
        torch.testing.assert_close(values, reference[name], atol=1e-5, rtol=0)
    assert cache_sites(any_model, tiny_tokens, []) == {}


def test_cache_sites_stops_early(any_model: Model, tiny_tokens: Tensor) -> None:
    calls: list[str] = []
    count = [(f"blocks.{i}.hook_resid_pre", lambda x, hook: calls.append("")) for i in range(3)]
    with hooks_at(any_model, count):
        cache_sites(any_model, tiny_tokens, [SITE])
    assert len(calls) == 2
    assert SITE in cache_sites(any_model, tiny_tokens, [SITE], stop_at_layer=2)
    with pytest.raises(ValueError, match="stop_at_layer=1"):
        cache_sites(any_model, tiny_tokens, [SITE], stop_at_layer=1)
    with pytest.raises(ValueError, match="stop_at_layer=1"):
        run_with_replacements(any_model, tiny_tokens, {SITE: lambda x: x}, stop_at_layer=1)


def test_cached_values_are_safe_from_hooks_in_place(any_model: Model, tiny_tokens: Tensor) -> None:
    def zero(activations: Tensor, hook: object) -> Tensor:
        activations[:] = 0
        return activations

    names = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_pre"]
    plain = cache_sites(any_model, tiny_tokens, names)
    with hooks_at(any_model, [(SITE, zero)]):
        edited = cache_sites(any_model, tiny_tokens, names)
    assert torch.equal(edited[names[0]], plain[names[0]])
    assert not torch.allclose(edited[names[1]], plain[names[1]])


def test_replacement_of_another_size(any_model: Model, tiny_tokens: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\[2, 9, 31\].*\[2, 9, 32\]"):
        run_with_replacements(any_model, tiny_tokens, {SITE: torch.zeros(2, 9, 31)})


def test_replacing_by_itself_changes_nothing(any_model: Model, tiny_tokens: Tensor) -> None:
    sites = [SITE, "blocks.0.attn.hook_z", "blocks.2.hook_mlp_out"]
    same = cache_sites(any_model, tiny_tokens, sites)
    torch.testing.assert_close(
        run_with_replacements(any_model, tiny_tokens, same), any_model(tiny_tokens)
    )
    by_function = {site: lambda x: x for site in sites}
    torch.testing.assert_close(
        run_with_replacements(any_model, tiny_tokens, by_function), any_model(tiny_tokens)
    )


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (3, None), (2, 1), (0, 4)])
def test_run_layers_out_of_range(any_model: Model, start: int, stop: int | None) -> None:
    with pytest.raises(ValueError, match="model with 3"):
        run_layers(any_model, torch.zeros(1, 2, 32), start_at_layer=start, stop_at_layer=stop)


def test_run_layers_that_run_nothing(any_model: Model) -> None:
    residual = torch.randn(1, 2, 32)
    assert run_layers(any_model, residual, start_at_layer=1, stop_at_layer=1) is residual


def test_helpers_accept_a_plain_hooked_transformer(tiny_tokens: Tensor) -> None:
    config = HookedTransformerConfig(
        n_layers=2, d_model=16, n_ctx=16, d_head=8, d_vocab=300, act_fn="gelu", seed=0
    )
    model = HookedTransformer(config)
    assert hook_width(model, "blocks.1.attn.hook_z") == 16
    assert run_layers(model, torch.zeros(1, 3, 16), start_at_layer=1).shape == (1, 3, 300)
