"""What a unit of activation writes: against the SAE's own decoder, and against the model itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.models import Model, cache_sites, has_hook, hooks_at, run_with_replacements
from core.models.stream import path_to_stream
from core.prompt_latents import ablation_effects
from core.saes import decode, encode
from core.saes.writes import (
    input_scale,
    logit_notes,
    residual_directions,
    unit_writes,
    writes_at,
    written_site,
)
from core.splitting.map_data import _written
from tests.sae_kinds import HEADS, RESID, of_kind
from tests.tiny_families import CASES, NORM_AFTER, family, hugging_face

pytestmark = pytest.mark.slow

TOKENS = torch.tensor([[5, 70, 12, 299, 41, 8, 133, 60, 27]])
KINDS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in ("standard", "jumprelu", "gated", "matching_pursuit", "topk")),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("abstopk", {"rescale_acts_by_decoder_norm": True}),
    *((kind, {}) for kind in ("transcoder", "skip_transcoder", "jumprelu_skip_transcoder")),
]
NORMS = ("none", "layer_norm", "constant_norm_rescale")
LATENTS = torch.tensor([3, 0, 63])


def sae_of(kind: str, hook_name: str = RESID, **options: Any) -> SAE:
    """With decoder rows of all lengths from 0.1 to 3."""
    sae = of_kind(kind, hook_name, **options)
    rows = sae.W_dec.data
    lengths = torch.linspace(0.1, 3, len(rows))[:, None]
    sae.W_dec.data = rows / rows.norm(dim=-1, keepdim=True) * lengths
    return sae


def by_decoding(sae: SAE, latents: Tensor, like: Tensor | None) -> Tensor:
    """`decode(one) - decode(zero)`, in float64 to see more digits."""
    zeros = torch.zeros(len(latents), sae.cfg.d_sae)
    ones = zeros.scatter(1, latents[:, None], 1.0)
    more = {"d_head": 8} if like is None else {"like": like}
    return (decode(sae, ones, **more) - decode(sae, zeros, **more)).flatten(1)


@pytest.mark.parametrize("hook_name", [RESID, HEADS])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_unit_writes_what_decoding_it_adds(
    kind: str, options: dict[str, Any], norm: str, hook_name: str
) -> None:
    if "transcoder" in kind and (norm != "none" or hook_name == HEADS):
        pytest.skip("transcoders are of whole vectors, and write without a scale")
    sae = sae_of(kind, hook_name, normalize_activations=norm, **options)
    generator = torch.Generator().manual_seed(2)
    like = 4 * torch.randn(3, 32, generator=generator) + 1
    like = like.unflatten(1, (4, 8)) if hook_name == HEADS else like
    expected = by_decoding(sae, LATENTS, like)
    torch.testing.assert_close(writes_at(sae, LATENTS, like), expected, atol=1e-5, rtol=1e-4)
    unit = unit_writes(sae, LATENTS)
    flat = like.flatten(1)
    scale = {
        "standard deviation": (flat - flat.mean(1, keepdim=True)).std(1, keepdim=True),
        "root mean square": flat.square().mean(1, keepdim=True).sqrt(),
        None: torch.ones(3, 1),
    }[input_scale(sae)]
    assert (input_scale(sae) is None) == (norm == "none")
    torch.testing.assert_close(unit * scale, expected, atol=1e-5, rtol=1e-4)


def test_rescaled_activations_write_rows_of_length_one_and_zeros_write_nothing() -> None:
    sae = sae_of("topk", rescale_acts_by_decoder_norm=True)
    torch.testing.assert_close(unit_writes(sae, range(64)).norm(dim=1), torch.ones(64))
    assert unit_writes(sae_of("topk"), [63]).norm() == pytest.approx(3)
    sae.W_dec.data[7] = 0
    assert unit_writes(sae, [7]).abs().max() == 0
    with pytest.raises(ValueError, match="no latent 64; this SAE has 64, so choose 0 to 63"):
        unit_writes(sae, [0, 64])


def test_the_directions_of_a_map_have_the_lengths_that_are_written() -> None:
    sae = sae_of("topk", rescale_acts_by_decoder_norm=True)
    torch.testing.assert_close(_written(sae), by_decoding(sae, torch.arange(64), None))


def stream_after(model: Model, site: str, there: Tensor) -> Tensor:
    """The stream at the last position (float64) that `there`, at a site of layer 1, is added to.

    Nothing behind the layer's own sum is in it: what the MLP gives stays as it is.
    """
    kept: dict[str, Tensor] = {}
    hooks: list[tuple[str, Callable[..., Any]]] = [(site, lambda acts, hook: there.clone())]
    mlp_out = "blocks.1.hook_mlp_out"
    if "attn" in site:
        clean = cache_sites(model, TOKENS, [mlp_out])[mlp_out]
        hooks.append((mlp_out, lambda acts, hook: clean.clone()))
    after = site if site.endswith("resid_pre") else "blocks.1.hook_resid_post"

    def keep(acts: Tensor, hook: object) -> None:
        kept["stream"] = acts.detach().clone()

    with torch.no_grad(), hooks_at(model, [*hooks, (after, keep)]):
        model(TOKENS, return_type=None)
    return kept["stream"][0, -1].double()


def slope(model: Model, site: str, there: Tensor, row: Tensor, step: float) -> Tensor:
    """How the stream moves with the row added at the site, by central differences."""
    move = step * row.reshape(there.shape[2:])
    change = stream_after(model, site, there + move) - stream_after(model, site, there - move)
    return (change / (2 * step)).float()


SITES = ("hook_resid_pre", "attn.hook_z", "hook_attn_out", "mlp.hook_post", "hook_mlp_out")


@pytest.mark.parametrize(("kind", "backend"), CASES)
@pytest.mark.parametrize("end", SITES)
def test_directions_are_what_the_models_stream_receives(kind: str, backend: str, end: str) -> None:
    model, site = family(kind, backend), f"blocks.1.{end}"
    if not has_hook(model, site):
        pytest.skip("a mixture of experts has no one hidden layer")
    there = cache_sites(model, TOKENS, [site])[site]
    sae = sae_of("topk", site, d_in=there[0, 0].numel(), rescale_acts_by_decoder_norm=True)
    latents = [3, 40]
    like = there[:, -1].expand(2, *there.shape[2:])
    at = residual_directions(model, sae, latents, like=like)
    free = residual_directions(model, sae, latents)
    curved = kind in NORM_AFTER and end in ("attn.hook_z", "mlp.hook_post")
    for number, latent in enumerate(latents):
        written = by_decoding(sae, torch.tensor([latent]), None)[0]
        real = slope(model, site, there, written, 1e-2 if curved else 1.0)
        error = (at[number] - real).norm() / real.norm()
        assert error < (2e-3 if curved else 1e-4)
        if not curved:
            torch.testing.assert_close(free[number], at[number])


@pytest.mark.parametrize("kind", NORM_AFTER)
def test_a_norm_behind_the_layer_gives_its_gain_and_at_a_place_its_derivative(kind: str) -> None:
    """From the weights of Hugging Face alone."""
    model, block = family(kind, "bridge"), hugging_face(kind)[1].model.layers[1]
    for site, projection, norm in (
        ("attn.hook_z", block.self_attn.o_proj, block.post_attention_layernorm),
        ("mlp.hook_post", block.mlp.down_proj, block.post_feedforward_layernorm),
    ):
        hook_name = f"blocks.1.{site}"
        there = cache_sites(model, TOKENS, [hook_name])[hook_name][:, -1]
        sae = sae_of("standard", hook_name, d_in=there.numel())
        gain = norm.weight + (1 if kind.startswith("gemma") else 0)
        with torch.no_grad():
            expected = projection(sae.W_dec[[3]]) * gain
        torch.testing.assert_close(
            residual_directions(model, sae, [3]), expected, atol=1e-5, rtol=1e-4
        )
        jacobian = torch.autograd.functional.jacobian(
            lambda z, p=projection, n=norm: n(p(z)), there.flatten()
        )
        torch.testing.assert_close(
            residual_directions(model, sae, [3], like=there)[0],
            jacobian @ sae.W_dec[3],
            atol=1e-4,
            rtol=1e-4,
        )
        notes = logit_notes(model, sae)
        assert any("the gain of that norm is in the figures" in it for it in notes)
        assert ("The model caps its logits at ±30; scores are before the cap." in notes) == (
            kind == "gemma2"
        )


@pytest.mark.parametrize(("kind", "backend"), CASES)
def test_one_head_writes_through_its_own_output_weights(kind: str, backend: str) -> None:
    model = family(kind, backend)
    one = {"reshape_activations": "none", "metadata": {"hook_head_index": 2}}
    single = sae_of("standard", HEADS, d_in=8, **one)
    whole = sae_of("standard", HEADS)
    whole.W_dec.data.zero_()
    whole.W_dec.data[:, 16:24] = single.W_dec
    there = cache_sites(model, TOKENS, [HEADS])[HEADS][:, -1]
    for more in ({}, {"like": there}):
        torch.testing.assert_close(
            residual_directions(model, single, [5], **more),
            residual_directions(model, whole, [5], **more),
        )


def test_a_multiplier_of_what_layers_add_is_found() -> None:
    model = family("granite", "bridge")
    assert path_to_stream(model, HEADS, 32).factor == pytest.approx(0.22, rel=1e-4)
    # That site holds what is added, the multiplier included.
    assert path_to_stream(model, "blocks.1.hook_attn_out", 32).factor == 1
    final = cache_sites(model, TOKENS, ["ln_final.hook_normalized"])["ln_final.hook_normalized"]
    logits = model(TOKENS, return_type="logits")[0, -1]
    torch.testing.assert_close(logits, final[0, -1] @ model.W_U / 2, atol=1e-4, rtol=1e-4)
    notes = logit_notes(model, sae_of("standard"))
    assert "The model divides its logits by 2; scores are before that." in notes


@pytest.mark.parametrize("backend", ["bridge", "hooked"])
@pytest.mark.parametrize(
    ("end", "width", "reason"),
    [
        ("mlp.hook_pre", 128, "they pass the nonlinearity of the MLP first"),
        ("ln1.hook_normalized", 32, "a norm gives them to what reads the stream"),
        ("ln2.hook_normalized", 32, "a norm gives them to what reads the stream"),
        ("hook_mlp_in", 32, "the MLP reads them"),
        ("attn.hook_q", 32, "queries only decide where heads look"),
        ("attn.hook_v", 32, "heads mix values of several positions first"),
    ],
)
def test_sites_that_are_not_added_to_the_stream_are_refused(
    backend: str, end: str, width: int, reason: str
) -> None:
    model = family("gpt2", backend)
    sae = sae_of("standard", f"blocks.1.{end}", d_in=width)
    with pytest.raises(ValueError, match=f"{end} holds {width} numbers that are not.*{reason}"):
        residual_directions(model, sae, [0])


def test_a_layer_that_does_something_unknown_is_refused() -> None:
    """What no formula here describes: a nonlinearity on the way from the heads to the stream."""
    model = family("llama", "bridge", processed=False)
    bend = [("blocks.2.hook_attn_out", lambda acts, hook: torch.tanh(acts))]
    sae = sae_of("standard", "blocks.2.attn.hook_z")
    with hooks_at(model, bend), pytest.raises(ValueError, match="manner that is not known here"):
        residual_directions(model, sae, [0])
    assert residual_directions(model, sae, [0]).shape == (1, 32)


def test_other_widths_and_silent_transcoders_get_a_sentence() -> None:
    model = family("gpt2", "bridge")
    with pytest.raises(ValueError, match="holds 16 numbers for the SAE and 32 in the model"):
        residual_directions(model, sae_of("standard", RESID, d_in=16), [0])
    transcoder = sae_of("transcoder", metadata={"hook_name_out": None})
    with pytest.raises(ValueError, match="does not say which site it writes"):
        written_site(transcoder)
    with pytest.raises(ValueError, match="does not say which site it writes"):
        ablation_effects(model, transcoder, TOKENS, [0])


@pytest.mark.parametrize("kind", ["transcoder", "skip_transcoder"])
def test_transcoders_write_to_their_output_site(kind: str) -> None:
    model = family("gemma2", "bridge")
    sae = sae_of(kind, "blocks.1.ln2.hook_normalized")
    assert written_site(sae) == "blocks.1.hook_mlp_out"
    torch.testing.assert_close(residual_directions(model, sae, [9]), sae.W_dec[[9]])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("hook_name", [RESID, HEADS])
def test_ablation_takes_away_what_a_rescaled_latent_wrote(norm: str, hook_name: str) -> None:
    model = family("gemma2", "bridge")
    sae = sae_of("topk", hook_name, rescale_acts_by_decoder_norm=True, normalize_activations=norm)
    site = cache_sites(model, TOKENS, [hook_name])[hook_name]
    acts = encode(sae, site)
    latent = int((acts[0, 1:] > 0).sum(0).argmax())
    without = acts.clone()
    without[:, 1:, latent] = 0
    change = decode(sae, acts, like=site) - decode(sae, without, like=site)
    logits = [run_with_replacements(model, TOKENS, {hook_name: it}) for it in (site, site - change)]
    clean, ablated = (
        torch.nn.functional.cross_entropy(it[0, :-1], TOKENS[0, 1:], reduction="none")
        for it in logits
    )
    found = ablation_effects(model, sae, TOKENS, [latent])
    np.testing.assert_allclose(found.increase[0], (ablated - clean).numpy(), atol=2e-5)
    assert np.abs(found.increase).max() > 1e-3


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "gemma3_text"])
def test_a_final_gain_that_is_not_in_the_unembedding_is_told(kind: str) -> None:
    sae = sae_of("standard")
    for processed in (True, False):
        notes = logit_notes(family(kind, "bridge", processed=processed), sae)
        assert any("final norm multiplies" in it for it in notes) != processed


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_embeddings_begin_the_stream(kind: str) -> None:
    model, sae = family(kind, "bridge"), sae_of("standard", "hook_embed")
    torch.testing.assert_close(residual_directions(model, sae, [4]), sae.W_dec[[4]])


def test_notes_say_what_the_figures_are_times() -> None:
    model = family("gpt2", "bridge")
    assert logit_notes(model, sae_of("standard")) == ()
    (note,) = logit_notes(model, sae_of("standard", normalize_activations="layer_norm"))
    assert "times the input's scale (its standard deviation)" in note
    (note,) = logit_notes(model, sae_of("gated", normalize_activations="constant_norm_rescale"))
    assert "(its root mean square)" in note
