"""SAEs of other libraries in one's own folders: listed, loaded, and equal to what they publish."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sae_lens.registry import SAE_CLASS_REGISTRY
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from core.catalog import SaeEntry
from core.catalog.formats import own
from core.catalog.formats.sites import module_problem, site_of_module
from core.catalog.sae_kinds import SUPPORTED
from core.engine import Engine
from core.models import cache_sites
from core.saes import decode, encode, load_sae_from_disk, reconstruct
from core.view.sae_facts import facts_of
from tests import foreign_saes as foreign
from tests.builders import train_tiny_tokenizer, write_tiny_gpt2
from tests.foreign_saes import D_IN, D_SAE, Foreign
from tests.sae_folders import put_sae, user_catalog

CLASSES = (
    *("AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE"),
    *("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder", "GatedAutoEncoder"),
)
GEMMA = "gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_68"

FORMATS: dict[str, Callable[[Path], Foreign]] = {
    **{
        f"dictionary_learning {it}": lambda root, it=it: foreign.dictionary_learning(
            root / "run/trainer_0", it
        )
        for it in CLASSES
    },
    "sparsify": lambda root: foreign.sparsify(
        root / "run/layers.1", hook_name="blocks.1.hook_resid_post"
    ),
    "sparsify mlp": lambda root: foreign.sparsify(
        root / "run/h.2.mlp", hook_name="blocks.2.hook_mlp_out", normalize_decoder=False
    ),
    "sparsify seed": lambda root: foreign.sparsify(
        root / "pythia-70m/layers.3/seed1", model=None, hook_name="blocks.3.hook_resid_post"
    ),
    "gemma_scope": lambda root: foreign.gemma_scope(
        root / GEMMA, hook_name="blocks.5.hook_resid_post"
    ),
    "gemma_scope attention": lambda root: foreign.gemma_scope(
        root / "gemma-scope-9b-pt-att/layer_7/width_16k/average_l0_80",
        hook_name="blocks.7.attn.hook_z",
        compressed=True,
    ),
    "gemma_scope_2": lambda root: foreign.gemma_scope_2(
        root / "gemma-scope-2-1b-pt/resid_post/layer_7_width_16k_l0_small",
        hook_name="blocks.7.hook_resid_post",
        hf_hook_point_in="model.layers.7.output",
        model_name="gemma-v3-1b-pt",
    ),
    "hook_z": lambda root: foreign.hook_z(root / "heads/gpt2-small_L1_v9.pt"),
}


def only_entry(root: Path) -> SaeEntry:
    (entry,) = user_catalog(root).saes(root.name)
    return entry


@pytest.mark.parametrize("name", FORMATS)
def test_computes_what_its_library_publishes(name: str, tmp_path: Path) -> None:
    made = FORMATS[name](tmp_path / "mine")
    entry = only_entry(tmp_path / "mine")
    assert entry.problem is None
    assert entry.conversion == name.split()[0]
    assert name.split()[0] in entry.haystack
    assert (entry.hook_name, entry.d_in, entry.width) == (made.hook_name, D_IN, D_SAE)
    assert entry.path == made.path
    assert user_catalog(tmp_path / "mine").entry("mine", entry.sae_id) == entry
    sae = load_sae_from_disk(made.path, device="cpu")
    x = foreign.noise(4, 7, D_IN, seed=9)
    latents = encode(sae, x)
    expected = made.encode(x)
    fires = float((expected > 0).float().mean())
    assert 0.02 < fires < 0.8, "the case must have latents on and off"
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        decode(sae, latents, d_head=D_IN), made.decode(expected), atol=1e-5, rtol=1e-5
    )
    assert not sae.training
    assert all(parameter.dtype == torch.float32 for parameter in sae.parameters())
    assert not any(parameter.requires_grad for parameter in sae.parameters())
    assert sae.cfg.metadata.hook_name == made.hook_name
    assert facts_of(entry).file_format == entry.conversion


def test_models_are_named_by_config_or_path(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name in FORMATS:
        if name.count(" ") == 0 or name.startswith("gemma") or name.endswith("GatedAutoEncoder"):
            FORMATS[name](root)
    assert {
        entry.sae_id: (entry.model, entry.problem) for entry in user_catalog(root).saes("mine")
    } == {
        "run/trainer_0": ("gpt2", None),
        "run/layers.1": ("gpt2", None),
        GEMMA: ("gemma-2-2b", None),
        "gemma-scope-9b-pt-att/layer_7/width_16k/average_l0_80": ("gemma-2-9b", None),
        "gemma-scope-2-1b-pt/resid_post/layer_7_width_16k_l0_small": (
            "google/gemma-3-1b-pt",
            None,
        ),
        "heads/gpt2-small_L1_v9": ("gpt2-small", None),
    }
    model = write_tiny_gpt2(tmp_path / "my-model")
    foreign.gemma_scope_2(
        tmp_path / "here" / "resid_post" / "layer_1",
        model_name=str(model),
        hf_hook_point_in="model.layers.1.output",
    )
    (entry,) = user_catalog(tmp_path / "here").saes("here")
    assert (entry.model, entry.problem) == (str(model), None)
    put = FORMATS["sparsify seed"](root / "other")
    (entry,) = user_catalog(root / "other").saes("other")
    assert (entry.path, entry.model, entry.problem) == (put.path, "pythia-70m", None)


def test_k_is_that_of_the_weights(tmp_path: Path) -> None:
    """Training lowers k, and its config was written before (there it says 40)."""
    foreign.dictionary_learning(tmp_path / "a", "AutoEncoderTopK")
    assert load_sae_from_disk(tmp_path / "a", device="cpu").cfg.k == foreign.K


def test_heads_keep_their_shape(tmp_path: Path) -> None:
    made = foreign.hook_z(tmp_path / "a.pt")
    sae = load_sae_from_disk(made.path, device="cpu")
    heads = foreign.noise(2, 3, 4, 8, seed=1)
    expected = made.decode(made.encode(heads.flatten(-2))).unflatten(-1, (4, 8))
    torch.testing.assert_close(reconstruct(sae, heads), expected, atol=1e-5, rtol=1e-5)


def test_several_in_one_folder_are_several_saes(tmp_path: Path) -> None:
    root = tmp_path / "heads"
    for layer in (0, 1):
        foreign.hook_z(root / f"L{layer}.v9.pt", hook_name=f"blocks.{layer}.attn.hook_z")
    catalog = user_catalog(root)
    ids = [entry.sae_id for entry in catalog.saes("heads")]
    assert ids == ["L0.v9", "L1.v9"]
    assert [catalog.entry("heads", it).layer for it in ids] == [0, 1]
    with pytest.raises(ValueError, match=r"holds 2 SAEs; give one of L0.v9.pt, L1.v9.pt"):
        load_sae_from_disk(root)


@pytest.mark.parametrize("name", FORMATS)
def test_version_changes_with_every_file(name: str, tmp_path: Path) -> None:
    made = FORMATS[name](tmp_path / "mine")
    folder = made.path if made.path.is_dir() else made.path.parent
    before = only_entry(tmp_path / "mine").version
    sidecar = folder / "explorer.json"
    for file in [*(it for it in folder.iterdir()), sidecar]:
        content = file.read_bytes() if file.exists() else b"{}"
        file.write_bytes(content + b" ")
        assert only_entry(tmp_path / "mine").version != before, file.name
        before = only_entry(tmp_path / "mine").version


def test_the_user_says_site_and_model(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    foreign.gemma_scope(root / "some/a")
    foreign.sparsify(root / "some/my sae", model=None)
    first, second = user_catalog(root).saes("mine")
    for entry, file_format in ((first, "gemma_scope"), (second, "sparsify")):
        assert f"({file_format}) does not say the model and the site" in (entry.problem or "")
        assert "explorer.json" in (entry.problem or "")
    (root / "explorer.json").write_text(json.dumps({"model_name": "gemma-2-2b"}))
    for entry in user_catalog(root).saes("mine"):
        assert "does not say the site it" in (entry.problem or "")
        assert entry.path is not None
        said = {"hook_name": "blocks.3.hook_mlp_out"}
        (entry.path / "explorer.json").write_text(json.dumps(said))
    for entry in user_catalog(root).saes("mine"):
        assert entry.problem is None
        assert (entry.model, entry.hook_name) == ("gemma-2-2b", "blocks.3.hook_mlp_out")
        assert entry.path is not None
        sae = load_sae_from_disk(entry.path, device="cpu")
        assert sae.cfg.metadata.model_name == "gemma-2-2b"


def test_what_is_said_above_does_not_overrule_what_an_sae_says(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    foreign.sparsify(root / "run/layers.1", model="gpt2")
    foreign.gemma_scope(root / GEMMA)
    (root / "explorer.json").write_text(json.dumps({"model_name": "pythia-70m"}))
    assert [entry.model for entry in user_catalog(root).saes("mine")] == ["gemma-2-2b", "gpt2"]
    (root / "explorer.json").write_text("{")
    assert all(entry.problem is None for entry in user_catalog(root).saes("mine"))
    foreign.sparsify(root / "a/b/c", model=None)
    (entry, *_) = user_catalog(root).saes("mine")
    assert "explorer.json is not readable JSON" in (entry.problem or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_user_says_how_it_was_trained(name: str, tmp_path: Path) -> None:
    """Without BOS, on activations whose mean norm was scaled to √d: of the text at hand."""
    write_tiny_gpt2(tmp_path / "mine/tiny", d_model=D_IN, n_layers=9)
    made = FORMATS[name](tmp_path / "mine")
    folder = made.path if made.path.is_dir() else made.path.parent
    said = {"model_name": "tiny", "prepend_bos": False}
    said["normalize_activations"] = "expected_average_only_in"
    (folder / "explorer.json").write_text(json.dumps(said))
    catalog = user_catalog(tmp_path / "mine")
    (entry,) = catalog.saes("mine")
    assert (entry.problem, entry.prepend_bos) == (None, False)
    with Engine(catalog, device="cpu").use(entry.model, [entry.key]) as (model, (sae,)):
        assert sae.cfg.metadata.prepend_bos is False
        factor = float(sae.cfg.metadata.norm_factor)
        assert factor > 0
        assert factor != 1
        tokens = model.to_tokens("A sparse autoencoder reads the residual stream.")
        site = cache_sites(model, tokens, [made.hook_name])[made.hook_name]
        flat = factor * site.flatten(2)
        torch.testing.assert_close(encode(sae, site), made.encode(flat), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("folder", "module"),
    [("layers.1", "layer"), ("layers.1.mlp", "mlp"), ("layers.1.self_attn", "attention")],
)
def test_reads_what_the_module_of_hugging_face_puts_out(
    architecture: str, folder: str, module: str, tmp_path: Path
) -> None:
    """Through catalog and engine on a tiny model: the very numbers the SAE was trained on."""
    location = write_tiny_gpt2(tmp_path / "mine/tiny", d_model=D_IN, architecture=architecture)
    gpt2 = architecture == "gpt2"
    name = folder.replace("layers", "h").replace("self_attn", "attn") if gpt2 else folder
    made = foreign.sparsify(tmp_path / "mine/run" / name, model="tiny")
    catalog = user_catalog(tmp_path / "mine")
    (entry,) = catalog.saes("mine")
    assert (entry.problem, entry.model) == (None, str(location))
    hf = AutoModelForCausalLM.from_pretrained(location).eval()
    block = (hf.transformer.h if gpt2 else hf.model.layers)[1]
    parts = {"layer": block, "mlp": block.mlp}
    read = parts.get(module) or (block.attn if gpt2 else block.self_attn)
    seen: list[torch.Tensor] = []
    read.register_forward_hook(
        lambda _module, _inputs, output: seen.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    with Engine(catalog, device="cpu").use(entry.model, [entry.key]) as (model, (sae,)):
        tokens = model.to_tokens("The river runs under the bridges of the city.")
        site = cache_sites(model, tokens, [entry.hook_name or ""])[entry.hook_name or ""]
        latents = encode(sae, site)
    with torch.no_grad():
        hf(tokens)
    torch.testing.assert_close(site, seen[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(latents, made.encode(seen[0]), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_through_catalog_and_engine(name: str, tmp_path: Path) -> None:
    write_tiny_gpt2(tmp_path / "mine/tiny", d_model=D_IN, n_layers=9)
    made = FORMATS[name](tmp_path / "mine")
    folder = made.path if made.path.is_dir() else made.path.parent
    (folder / "explorer.json").write_text('{"model_name": "tiny"}')
    catalog = user_catalog(tmp_path / "mine")
    (entry,) = catalog.saes("mine")
    with Engine(catalog, device="cpu").use(entry.model, [entry.key]) as (model, (sae,)):
        tokens = model.to_tokens("A sparse autoencoder reads the residual stream.")
        site = cache_sites(model, tokens, [made.hook_name])[made.hook_name]
        flat = site.flatten(2)
        torch.testing.assert_close(encode(sae, site), made.encode(flat), atol=1e-4, rtol=1e-4)
        expected = made.decode(made.encode(flat)).reshape(site.shape)
        torch.testing.assert_close(reconstruct(sae, site), expected, atol=1e-4, rtol=1e-4)


def test_output_before_a_second_norm_is_refused(tmp_path: Path) -> None:
    """Gemma 2 normalises what its MLP writes: the site of that name is another tensor."""
    tokenizer = train_tiny_tokenizer()
    gemma = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=D_IN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
    )
    Gemma2ForCausalLM(gemma).save_pretrained(tmp_path / "mine/tiny")
    tokenizer.save_pretrained(tmp_path / "mine/tiny")
    foreign.sparsify(tmp_path / "mine/run/layers.1", model="tiny")
    foreign.sparsify(tmp_path / "mine/run/layers.1.mlp", model="tiny")
    catalog = user_catalog(tmp_path / "mine")
    stream, mlp = catalog.saes("mine")
    engine = Engine(catalog, device="cpu")
    with engine.use(stream.model, [stream.key]):
        pass
    with (
        pytest.raises(ValueError, match=r"output of layers.1.mlp before the norm"),
        engine.use(mlp.model, [mlp.key]),
    ):
        pass


@pytest.mark.parametrize(
    ("module", "hook", "model", "refused"),
    [
        ("layers.1.mlp", "blocks.1.hook_mlp_out", "google/gemma-2-2b", True),
        ("layers.1.mlp", "blocks.1.hook_mlp_out", "gemma-3-1b-pt", True),
        ("layers.1.mlp", "blocks.1.hook_mlp_out", "gemma-2b", False),
        ("layers.1", "blocks.1.hook_resid_post", "gemma-2-2b", False),
        ("embed_tokens", "hook_embed", "gemma-7b", True),
        ("wte", "hook_embed", "gpt2", False),
    ],
)
def test_modules_of_known_models(module: str, hook: str, model: str, refused: bool) -> None:
    assert (module_problem(module, hook, model) is not None) == refused


def test_module_names() -> None:
    sites = {
        "layers.10": "blocks.10.hook_resid_post",
        "layers.5.mlp": "blocks.5.hook_mlp_out",
        "h.0.attn": "blocks.0.hook_attn_out",
        "gpt_neox.layers.2.attention": "blocks.2.hook_attn_out",
        "model.layers.3.self_attn.o_proj": "blocks.3.hook_attn_out",
        "transformer.h.4.mlp.act": "blocks.4.mlp.hook_post",
        "embed_tokens": "hook_embed",
        "layers.5.mlp.act_fn": None,
        "layers.5.input_layernorm": None,
        "layers": None,
        "layers.5x": None,
    }
    assert {name: site_of_module(name) for name in sites} == sites


def test_sae_lens_own_format_is_as_before(tmp_path: Path) -> None:
    put_sae(tmp_path / "mine/a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    entry = only_entry(tmp_path / "mine")
    assert (entry.problem, entry.conversion, entry.sae_id) == (None, None, "a")


@pytest.mark.parametrize("architecture", sorted(set(SUPPORTED) - {"matching_pursuit"}))
def test_tensors_listed_for_an_architecture_are_those_of_sae_lens(architecture: str) -> None:
    sae_class, config_class = SAE_CLASS_REGISTRY[architecture]
    sizes = {"d_in": 6, "d_sae": 10, **({"d_out": 4} if "transcoder" in architecture else {})}
    other = {"apply_b_dec_to_input": False} if "transcoder" in architecture else {}
    sae = sae_class(config_class(**sizes, **other))
    found = {name: tuple(value.shape) for name, value in sae.state_dict().items()}
    assert own.tensors_of({**sizes}, architecture) == found
