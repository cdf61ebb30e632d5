"""Sources of attention latents in many families, against the Hugging Face model's own numbers."""

from typing import Any

import pytest
import torch
from sae_lens import SAE
from torch import Tensor, nn

from core.attribution import SourceAttribution, attribute_to_sources
from core.models import cache_sites, hooks_at
from core.saes import encode
from tests.sae_kinds import of_kind
from tests.tiny_families import CASES, NORM_AFTER, family, hugging_face

pytestmark = pytest.mark.slow

TOKENS = torch.tensor([[5, 70, 12, 299, 41, 8, 133, 60, 27]])
PLACE = 6
SITES = ("blocks.1.attn.hook_z", "blocks.1.hook_attn_out")
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("standard", {}),
    ("standard", {"apply_b_dec_to_input": False}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("jumprelu", {}),
    ("gated", {}),
    ("gated", {"apply_b_dec_to_input": False}),
]


def sums(found: SourceAttribution) -> float:
    return float(found.terms.sum()) + found.bias


def plain_pre_activation(sae: SAE, site: Tensor, latent: int) -> float:
    """The formula of the architecture, before any rescaling, at one position."""
    x = site.flatten() - sae.b_dec * sae.cfg.apply_b_dec_to_input
    column = sae.W_enc[:, latent]
    if sae.cfg.architecture() == "gated":
        return float(x @ column * sae.r_mag[latent].exp() + sae.b_mag[latent])
    return float(x @ column + sae.b_enc[latent])


def site_of_hugging_face(kind: str, site: str) -> Tensor:
    """What stands at the site of layer 1, [pos, ...], in a run of the plain model."""
    model = hugging_face(kind)[1]
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        kept["in"], kept["out"] = args[0], output

    if kind == "gpt2":
        block = model.transformer.h[1]
        projection = last = block.attn.c_proj
    elif kind == "gpt_neox":
        projection = last = model.gpt_neox.layers[1].attention.dense
    else:
        block = model.model.layers[1]
        projection = last = block.self_attn.o_proj
        if kind in NORM_AFTER:
            last = block.post_attention_layernorm
    module, name = (projection, "in") if site.endswith("hook_z") else (last, "out")
    handle = module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(TOKENS)
    finally:
        handle.remove()
    found = kept[name][0]
    # Granite multiplies what it adds, behind every module.
    return found * 0.22 if kind == "granite" and name == "out" else found


@pytest.mark.parametrize(("architecture", "options"), KINDS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("kind", "backend"), CASES)
def test_terms_add_up_to_the_pre_activation(
    kind: str, backend: str, site: str, architecture: str, options: dict[str, Any]
) -> None:
    sae = of_kind(architecture, site, **options)
    theirs = site_of_hugging_face(kind, site)[PLACE]
    for processed in (False, True):
        model = family(kind, backend, processed=processed)
        there = cache_sites(model, TOKENS, [site])[site][:, PLACE]
        if not processed:
            torch.testing.assert_close(there.flatten(), theirs.flatten(), atol=1e-4, rtol=1e-4)
            there = theirs
        latent = int(encode(sae, there.reshape(1, *(4, 8) if "hook_z" in site else (32,))).argmax())
        for number in (latent, 7):
            found = attribute_to_sources(model, sae, TOKENS, number, PLACE)
            expected = plain_pre_activation(sae, there, number)
            assert sums(found) == pytest.approx(expected, abs=2e-4)
            assert found.pre_activation == pytest.approx(expected, abs=2e-4)
            rescaled = float(sae.W_dec[number].norm()) if architecture == "topk" else 1.0
            assert found.rescaled_by == pytest.approx(rescaled)
            assert found.holds_norm == (kind in NORM_AFTER and site.endswith("hook_attn_out"))
        assert attribute_to_sources(model, sae, TOKENS, latent, PLACE).activation > 0


@pytest.mark.parametrize(("kind", "backend"), CASES)
def test_behind_a_norm_terms_are_those_with_its_scale_held(kind: str, backend: str) -> None:
    """A source that is switched off takes its term away when the norm divides as before."""
    site, sae = SITES[1], of_kind("standard", SITES[1])
    model = family(kind, backend)
    found = attribute_to_sources(model, sae, TOKENS, 3, PLACE)
    names = ["blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern", "blocks.1.attn.hook_v"]
    z, pattern, values = (it[0] for it in cache_sites(model, TOKENS, names).values())
    values = values.repeat_interleave(4 // values.shape[1], dim=1)
    attn = model.blocks[1].attn
    bias = 0 if attn.b_O is None else attn.b_O
    before = z.flatten(1) @ attn.W_O.flatten(0, 1) + bias
    there = cache_sites(model, TOKENS, [site])[site][0]
    # What the layer gives, over what its weights give: gain, division and multiplier in one.
    ratio = (there / before)[PLACE]
    for head, source in ((0, 0), (2, 4), (3, PLACE)):
        part = pattern[head, PLACE, source] * values[source, head] @ attn.W_O[head]
        expected = float((part * ratio) @ sae.W_enc[:, 3])
        assert float(found.terms[head, source]) == pytest.approx(expected, abs=1e-4)


def test_what_does_not_add_up_is_refused() -> None:
    """As with gates behind the heads: what is read is not what patterns and values make."""
    model, sae = family("llama", "bridge"), of_kind("standard", SITES[0])
    gate = [(SITES[0], lambda z, hook: 2 * z)]
    with hooks_at(model, gate), pytest.raises(ValueError, match="is not all that stands at"):
        attribute_to_sources(model, sae, TOKENS, 3, PLACE)
    attribute_to_sources(model, sae, TOKENS, 3, PLACE)


def test_one_head_is_fed_by_that_head_alone() -> None:
    model, site = family("gemma2", "bridge"), SITES[0]
    one = {"reshape_activations": "none", "metadata": {"hook_head_index": 2}}
    sae = of_kind("standard", site, d_in=8, **one)
    found = attribute_to_sources(model, sae, TOKENS, 5, PLACE)
    theirs = site_of_hugging_face("gemma2", site)[PLACE].view(4, 8)[2]
    assert sums(found) == pytest.approx(plain_pre_activation(sae, theirs, 5), abs=1e-4)
    assert found.terms[[0, 1, 3]].abs().max() == 0
    assert found.terms[2].abs().min() > 0
