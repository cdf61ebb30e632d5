"""What a unit of activation writes: to the SAE's output, and on to the residual stream."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from core.attribution import attribute_to_sources
from core.models import Model, cache_sites, hooks_at, load_model, run_with_replacements
from core.saes import decode, encode
from core.saes.writes import residual_directions, stream_path, unit_writes, writes_at
from tests.model_families import FAMILIES, write_family

TOKENS = torch.randint(4, 290, (1, 9), generator=torch.Generator().manual_seed(3))
LATENTS = [3, 17, 40]


def make(kind: str, hook: str, *, d_in: int = 32, d_out: int | None = None, **options: Any) -> SAE:
    """A random SAE whose decoder rows have norms from 0.1 to 3."""
    metadata = SAEMetadata(hook_name=hook, prepend_bos=True, **options.pop("metadata", {}))
    cls, config = get_sae_class(kind)
    if d_out is not None:
        options |= {"d_out": d_out, "apply_b_dec_to_input": False}
    sae = cls(config(d_in=d_in, d_sae=64, metadata=metadata, **options))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sae.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.3 + 0.3 * noise.abs() if name == "threshold" else 0.3 * noise
    rows = sae.W_dec.data / sae.W_dec.data.norm(dim=1, keepdim=True)
    sae.W_dec.data = rows * torch.linspace(0.1, 3, 64)[:, None]
    return sae.eval().requires_grad_(False)


KINDS = [
    ("standard", {}),
    ("jumprelu", {}),
    ("gated", {}),
    ("topk", {"k": 6, "rescale_acts_by_decoder_norm": False}),
    ("topk", {"k": 6, "rescale_acts_by_decoder_norm": True}),
    ("matching_pursuit", {"max_iterations": 4}),
    ("transcoder", {"d_out": 32}),
    ("jumprelu_transcoder", {"d_out": 32}),
    ("skip_transcoder", {"d_out": 32}),
]


@pytest.mark.parametrize(
    ("kind", "options", "norm"),
    [
        (kind, options, norm)
        for kind, options in KINDS
        for norm in ("none", "layer_norm", "constant_norm_rescale")
        # sae_lens does not normalise for transcoders.
        if norm == "none" or "transcoder" not in kind
    ],
)
def test_a_unit_writes_what_decoding_it_changes(
    kind: str, options: dict[str, Any], norm: str
) -> None:
    sae = make(kind, "blocks.1.hook_resid_pre", normalize_activations=norm, **options)
    x = torch.randn(len(LATENTS), 32, generator=torch.Generator().manual_seed(2)) * 5
    zeros = torch.zeros(len(LATENTS), 64)
    ones = zeros.clone()
    ones[range(len(LATENTS)), LATENTS] = 1
    expected = decode(sae, ones, like=x) - decode(sae, zeros, like=x)
    numbers = torch.tensor(LATENTS)
    torch.testing.assert_close(writes_at(sae, numbers, x), expected, atol=1e-5, rtol=1e-5)
    rows = unit_writes(sae, LATENTS)
    if norm == "none":
        torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)
    else:
        # Times the scale of the input, which differs from position to position.
        scale = expected.norm(dim=1) / rows.norm(dim=1)
        torch.testing.assert_close(rows * scale[:, None], expected, atol=1e-4, rtol=1e-4)
        assert scale.std() > 0.01


def test_rows_of_zeros_write_nothing_and_unknown_latents_are_named() -> None:
    sae = make("topk", "blocks.1.hook_resid_pre", k=6, rescale_acts_by_decoder_norm=True)
    sae.W_dec.data[3] = 0
    assert torch.equal(unit_writes(sae, [3]), torch.zeros(1, 32))
    with pytest.raises(ValueError, match="choose 0 to 63"):
        unit_writes(sae, [64])


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family") / request.param
    write_family(request.param, folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def model(family: Path) -> Model:
    return load_model(family, device="cpu")


def added_to_the_stream(model: Model, site: str, layer: int, direction: Tensor) -> Tensor:
    """What the stream after a layer's part receives when `direction` is added at a site.

    At the last position, as the derivative of the part's contribution alone, by autograd in
    float32: `hook_attn_out` or `hook_mlp_out` is what the layer adds.
    """
    reached = f"blocks.{layer}.hook_{'attn' if 'attn' in site else 'mlp'}_out"
    clean = cache_sites(model, TOKENS, [site])[site]
    seen: list[Tensor] = []

    def moved(step: Tensor) -> Tensor:
        seen.clear()

        def read(activations: Tensor, hook: Any) -> None:
            seen.append(activations)

        there = clean + step * direction.reshape(clean.shape[2:])
        with hooks_at(model, [(reached, read)]):
            run_with_replacements(model, TOKENS, {site: there}, stop_at_layer=layer + 1)
        return seen[0][0, -1]

    return torch.func.jvp(moved, (torch.zeros(()),), (torch.ones(()),))[1].detach()


@pytest.mark.parametrize("site", ["attn.hook_z", "mlp.hook_post"])
def test_directions_are_what_the_stream_receives(model: Model, site: str) -> None:
    name = f"blocks.1.{site}"
    width = cache_sites(model, TOKENS, [name])[name][0, 0].numel()
    options = {"reshape_activations": "hook_z"} if site.endswith("z") else {}
    sae = make("standard", name, d_in=width, **options)
    part = "attn" if "attn" in site else "mlp"
    found = residual_directions(model, sae, LATENTS)
    norm = stream_path(model, sae).norm
    for latent, direction in zip(LATENTS, found, strict=True):
        received = added_to_the_stream(model, name, 1, sae.W_dec[latent])
        if norm is None:
            torch.testing.assert_close(direction, received, atol=1e-4, rtol=1e-3)
            continue
        # Behind a norm: up to its division, and less the part along what is there.
        out = f"blocks.1.hook_{part}_out"
        there = cache_sites(model, TOKENS, [out])[out][0, -1]
        gain = norm.gain
        unit = there / gain / (there / gain).norm()
        across = direction / gain - (direction / gain @ unit) * unit
        cosine = torch.cosine_similarity(across, received / gain, dim=0)
        assert cosine == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("site", ["attn.hook_z", "hook_attn_out"])
def test_sources_add_up_to_the_pre_activation(model: Model, site: str) -> None:
    name = f"blocks.1.{site}"
    there = cache_sites(model, TOKENS, [name])[name]
    options = {"reshape_activations": "hook_z"} if site.endswith("z") else {}
    sae = make("standard", name, d_in=there[0, 0].numel(), **options)
    for latent in LATENTS:
        found = attribute_to_sources(model, sae, TOKENS, latent, 6)
        x = there[0, 6].flatten()
        expected = float((x - sae.b_dec) @ sae.W_enc[:, latent] + sae.b_enc[latent])
        assert found.pre_activation == pytest.approx(expected, abs=1e-4)
        assert float(found.terms.sum()) + found.bias == pytest.approx(expected, abs=1e-4)
        own = float(encode(sae, there[:, 6])[0, latent])
        assert found.activation == pytest.approx(own, abs=1e-4)


def test_terms_change_as_their_sources_do(model: Model) -> None:
    """Taking one head's value at one source out of the sum takes its term out of hook_z."""
    name = "blocks.1.attn.hook_z"
    there = cache_sites(model, TOKENS, [name, "blocks.1.attn.hook_v"])
    sae = make("standard", name, d_in=there[name][0, 0].numel(), reshape_activations="hook_z")
    values = there["blocks.1.attn.hook_v"].clone()
    shared = there[name].shape[2] // values.shape[2]
    found = attribute_to_sources(model, sae, TOKENS, 3, 6)
    values[0, 2, 1] = 0
    seen: list[Tensor] = []
    with hooks_at(
        model,
        [
            ("blocks.1.attn.hook_v", lambda activations, hook: values),
            (name, lambda activations, hook: seen.append(activations.clone())),
        ],
    ):
        model(TOKENS, return_type=None)
    change = (seen[0][0, 6] - there[name][0, 6]).flatten() @ sae.W_enc[:, 3]
    heads = range(shared, 2 * shared)
    assert float(change) == pytest.approx(-float(found.terms[heads, 2].sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("mlp.hook_pre", "nonlinearity"),
        ("mlp.hook_in", "the MLP reads them"),
        ("ln2.hook_normalized", "a norm gives them"),
        ("hook_mlp_in", "the MLP reads them"),
    ],
)
def test_sites_that_write_nothing_are_refused(tiny_model: Model, site: str, words: str) -> None:
    sae = make("standard", f"blocks.1.{site}", d_in=128 if "pre" in site else 32)
    with pytest.raises(ValueError, match=words):
        residual_directions(tiny_model, sae, [0])
