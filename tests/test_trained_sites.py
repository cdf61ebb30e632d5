"""Every listed SAE is read at the tensor that it was trained on, hooked on Hugging Face's module.

`TRAINED_ON` states, for every combination of loader, site and model family in the catalog, what
the publisher says the SAE was trained on. A combination that is not stated fails the first test.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_saes_directory import get_config_overrides
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from core.catalog import pretrained
from core.catalog.entries import SaeEntry
from core.catalog.local_saes import read_sae_folder
from core.catalog.trained_sites import reading_of
from core.models import cache_sites, load_model, processing_for_sae
from core.saes import check_fits, encode, load_sae_from_disk, reconstruct, sae_card
from core.saes.trained import at_trained_site
from tests.builders import train_tiny_tokenizer

pytestmark = pytest.mark.slow

LAYER = 1

Read = Callable[[dict[str, Tensor]], Tensor]


def at(name: str) -> Read:
    return lambda caught: caught[name]


def centred(name: str) -> Read:
    """The tensor less its mean over d_model: what models with centred writing weights hold."""
    return lambda caught: caught[name] - caught[name].mean(-1, keepdim=True)


def without_gain(name: str) -> Read:
    """The input of an RMSNorm over its root mean square (Gemma Scope 1's fold of the gain)."""

    def read(caught: dict[str, Tensor]) -> Tensor:
        x = caught[name]
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()

    return read


def without_value_bias(caught: dict[str, Tensor]) -> Tensor:
    """Heads before the output matrix, less the value biases that folding takes there."""
    return caught["attn.c_proj.in"] - caught["value_bias"]


RESIDUAL = (at("out"), None)
GEMMA_MLP = (at("post_feedforward_layernorm.out"), None)
HEADS = (at("self_attn.o_proj.in"), None)

# (loader, site in the catalog, family): (what is read, what a transcoder is to predict)
TRAINED_ON: dict[tuple[str | None, str | None, str], tuple[Read, Read | None]] = {
    # Gemma Scope 2: hf_hook_point_in and _out of the published config.json.
    ("gemma_3", "hook_resid_post", "gemma3"): RESIDUAL,
    ("gemma_3", "attn.hook_z", "gemma3"): HEADS,
    ("gemma_3", "hook_mlp_out", "gemma3"): GEMMA_MLP,
    ("gemma_3", "mlp.hook_in", "gemma3"): (
        at("pre_feedforward_layernorm.out"),
        at("post_feedforward_layernorm.out"),
    ),
    # Gemma Scope: arXiv 2408.05147v2, section 3.2 and p. 18.
    ("gemma_2", "hook_resid_post", "gemma2"): RESIDUAL,
    ("gemma_2", "attn.hook_z", "gemma2"): HEADS,
    ("gemma_2", "hook_mlp_out", "gemma2"): GEMMA_MLP,
    ("gemma_2", "hook_embed", "gemma2"): (at("embed"), None),
    ("gemma_2_transcoder", "ln2.hook_normalized", "gemma2"): (
        without_gain("pre_feedforward_layernorm.in"),
        at("post_feedforward_layernorm.out"),
    ),
    # circuit-tracer's config.yaml of this CLT: hook_resid_mid, hook_mlp_out.
    ("mntss_clt_layer_transcoder", None, "gemma2"): (
        at("pre_feedforward_layernorm.in"),
        at("post_feedforward_layernorm.out"),
    ),
    # circuit-tracer, fold_ln=False.
    ("mwhanna_transcoder", "mlp.hook_in", "qwen3"): (at("mlp.in"), at("mlp.out")),
    # Modules of Hugging Face, read by nnsight or by forward hooks.
    ("dictionary_learning_1", "hook_resid_post", "gemma2"): RESIDUAL,
    ("dictionary_learning_1", "hook_resid_post", "pythia"): RESIDUAL,
    ("dictionary_learning_1", "hook_resid_post", "llama"): RESIDUAL,
    ("dictionary_learning_1", "hook_resid_post", "qwen2"): RESIDUAL,
    ("dictionary_learning_1", "hook_resid_post", "gpt_oss"): RESIDUAL,
    ("temporal", "hook_resid_post", "gemma2"): RESIDUAL,
    ("temporal", "hook_resid_post", "llama"): RESIDUAL,
    ("goodfire", "hook_resid_post", "llama"): RESIDUAL,
    ("deepseek_r1", "hook_resid_post", "llama"): RESIDUAL,
    ("qwen_scope", "hook_resid_post", "qwen3"): RESIDUAL,
    ("qwen_scope", "hook_resid_post", "qwen3_moe"): RESIDUAL,
    ("qwen_scope", "hook_resid_post", "qwen3_5"): RESIDUAL,
    ("qwen_scope", "hook_resid_post", "qwen3_5_moe"): RESIDUAL,
    # Llama Scope: transformer_lens' sites, of a model whose norms have no mean to be taken off.
    ("llama_scope", "hook_resid_post", "llama"): RESIDUAL,
    ("llama_scope", "hook_attn_out", "llama"): (at("self_attn.out"), None),
    ("llama_scope", "hook_mlp_out", "llama"): (at("mlp.out"), None),
    ("llama_scope_r1_distill", "hook_resid_post", "llama"): RESIDUAL,
    # transformer_lens' processed GPT-2: centred, its value biases folded.
    ("connor_rob_hook_z", "attn.hook_z", "gpt2"): (without_value_bias, None),
    (None, "hook_resid_pre", "gpt2"): (centred("in"), None),
    (None, "hook_resid_mid", "gpt2"): (centred("ln_2.in"), None),
    (None, "hook_resid_post", "gpt2"): (centred("out"), None),
    (None, "hook_attn_out", "gpt2"): (centred("attn.out"), None),
    (None, "hook_mlp_out", "gpt2"): (centred("mlp.out"), None),
    # dictionary_learning's Pythia, saved again in sae_lens' format.
    (None, "hook_resid_pre", "pythia"): (at("in"), None),
    (None, "hook_resid_post", "pythia"): RESIDUAL,
    (None, "hook_attn_out", "pythia"): (at("attention.out"), None),
    (None, "hook_mlp_out", "pythia"): (at("mlp.out"), None),
    (None, "hook_resid_post", "llama"): RESIDUAL,
    (None, "hook_resid_post", "gemma1"): RESIDUAL,
    (None, "hook_resid_post", "gemma2"): RESIDUAL,
    (None, "hook_resid_post", "gemma3"): RESIDUAL,
    (None, "hook_resid_pre", "mistral"): (at("in"), None),
}

FAMILIES = {
    r"gemma-3": "gemma3",
    r"gemma-2-": "gemma2",
    r"gemma-2b": "gemma1",
    r"gpt2": "gpt2",
    r"pythia": "pythia",
    r"gpt-oss": "gpt_oss",
    r"qwen3\.5.*-a\d+b": "qwen3_5_moe",
    r"qwen3\.5": "qwen3_5",
    r"qwen3.*-a\d+b": "qwen3_moe",
    r"qwen3": "qwen3",
    r"qwen2": "qwen2",
    r"mistral": "mistral",
    r"llama": "llama",
}

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_GEMMA = {**_LLAMA, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_SHARED = {"shared_expert_intermediate_size": 16}
_LINEAR = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "full_attention"],
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}),
    "pythia": (
        "gpt_neox",
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "use_parallel_residual": True,
        },
    ),
    "llama": ("llama", _LLAMA),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": 16}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}),
    "qwen3_moe": ("qwen3_moe", {**_LLAMA, "head_dim": 8, **_MOE}),
    "qwen3_5": ("qwen3_5_text", {**_LLAMA, **_LINEAR}),
    "gemma1": ("gemma", {**_LLAMA, "head_dim": 8}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", _GEMMA),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**_LLAMA, **_LINEAR, **_MOE, **_SHARED}),
    "gpt_oss": (
        "gpt_oss",
        {**_LLAMA, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}


def family_of(entry: SaeEntry) -> str:
    name = entry.model.lower()
    return next(family for pattern, family in FAMILIES.items() if re.search(pattern, name))


def combinations() -> dict[tuple[str | None, str | None, str], SaeEntry]:
    """One entry of each combination that the catalog lists and does not refuse."""
    found = {}
    for entries in pretrained.read_pretrained().entries.values():
        for entry in entries:
            site = entry.hook_name and re.sub(r"^blocks\.\d+\.", "", entry.hook_name)
            found[entry.conversion, site, family_of(entry)] = entry
    return found


def test_every_listed_combination_is_stated() -> None:
    assert set(combinations()) == set(TRAINED_ON)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Folder and Hugging Face module of a tiny random model of a family."""
    made: dict[str, tuple[Path, Any]] = {}

    def make(family: str) -> tuple[Path, Any]:
        if family not in made:
            made[family] = _write(tmp_path_factory.mktemp("families") / family, family)
        return made[family]

    return make


def _write(folder: Path, family: str) -> tuple[Path, Any]:
    tokenizer = train_tiny_tokenizer()
    kind, options = CONFIGS[family]
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ids, **options)
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            around = 0.0 if kind.startswith("gemma") or not name.endswith("weight") else 1.0
            parameter.data = around + 0.2 * noise
        else:
            parameter.data = noise * (1.5 / 32**0.5)
    model.tie_weights()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model


def caught_in(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Inputs and outputs of the block and its modules, by forward hooks on Hugging Face's."""
    caught: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            for place, value in ((f"{name}.in", given), (f"{name}.out", output)):
                tensor = value[0] if isinstance(value, tuple) else value
                if isinstance(tensor, Tensor):
                    caught[place.removeprefix(".")] = tensor.detach()

        return hook

    layers = next(
        (name for name, _ in model.named_modules() if re.search(rf"(?:layers|h)\.{LAYER}$", name))
    )
    handles = [
        module.register_forward_hook(
            keep(name.removeprefix(layers).removeprefix(".")), with_kwargs=True
        )
        for name, module in model.named_modules()
        if name == layers or name.startswith(f"{layers}.")
    ]
    handles.append(
        model.get_input_embeddings().register_forward_hook(
            lambda module, args, output: caught.update(embed=output.detach())
        )
    )
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    bias = getattr(getattr(model.get_submodule(layers), "attn", None), "c_attn", None)
    if bias is not None:
        # Folding the norm first moves its own bias there.
        shift = model.get_submodule(layers).ln_1.bias.detach() @ bias.weight.detach()
        caught["value_bias"] = (bias.bias.detach() + shift).chunk(3)[2]
    return caught


def tokens_for() -> Tensor:
    return torch.randint(4, 290, (2, 12), generator=torch.Generator().manual_seed(1))


def stand_in(entry: SaeEntry, d_in: int, model_name: str) -> SAE:
    """A small SAE with the metadata that sae_lens' loader gives, before anything is corrected."""
    site = entry.hook_name or f"blocks.{LAYER}.hook_resid_mid"
    hook = _in_layer(site)
    metadata: dict[str, Any] = {"model_name": model_name, "hook_name": hook}
    listed = get_config_overrides(entry.release, entry.sae_id)
    if "model_from_pretrained_kwargs" in listed:
        metadata["model_from_pretrained_kwargs"] = listed["model_from_pretrained_kwargs"]
    if entry.conversion == "gemma_3":
        metadata["hook_name"] = hook.replace("mlp.hook_in", "hook_mlp_in")
    is_transcoder = entry.kind == "transcoder"
    if is_transcoder:
        metadata["hook_name_out"] = f"blocks.{LAYER}.hook_mlp_out"
    if entry.conversion in ("mwhanna_transcoder", "mntss_clt_layer_transcoder"):
        metadata["model_from_pretrained_kwargs"] = {"fold_ln": False}
    architecture = "jumprelu_transcoder" if is_transcoder else "jumprelu"
    cls, config_class = get_sae_class(architecture)
    options = {"d_out": d_in} if is_transcoder else {}
    config = config_class(
        d_in=d_in,
        d_sae=24,
        apply_b_dec_to_input=False,
        metadata=SAEMetadata(**metadata),
        **options,
    )
    return cls(config).requires_grad_(False)


@pytest.mark.filterwarnings("ignore:\\s*This SAE has non-empty")
@pytest.mark.parametrize("combination", list(TRAINED_ON), ids=str)
def test_reads_what_it_was_trained_on(
    models: Callable[[str], tuple[Path, Any]], combination: tuple[str | None, str | None, str]
) -> None:
    family = combination[2]
    entry = combinations()[combination]
    read, predicted = TRAINED_ON[combination]
    folder, hf_model = models(family)
    tokens = tokens_for()
    caught = caught_in(hf_model, tokens)
    expected = read(caught)
    sae = at_trained_site(stand_in(entry, expected.shape[-1], entry.model), release=entry.release)
    if entry.hook_name:  # the catalog says so before anything is loaded
        assert dict(entry.processing) == (sae.cfg.metadata.model_from_pretrained_kwargs or {})
        assert sae.cfg.metadata.hook_name == _in_layer(entry.hook_name)
    model = load_model(folder, device="cpu", **processing_for_sae(sae))
    check_fits(sae, model, model_name=entry.model)
    hook, hook_out = str(sae.cfg.metadata.hook_name), sae.cfg.metadata.hook_name_out
    found = cache_sites(model, tokens, [hook, *([hook_out] if hook_out else [])])
    assert off_by(found[hook].flatten(2), expected) < 1e-5
    if predicted is not None:
        assert off_by(found[hook_out], predicted(caught)) < 1e-5
    encode(sae, found[hook])


def off_by(found: Tensor, expected: Tensor) -> float:
    """Largest difference, by the largest number there is."""
    return float((found - expected).abs().max() / expected.abs().max())


def _in_layer(hook_name: str) -> str:
    return re.sub(r"^blocks\.\d+", f"blocks.{LAYER}", hook_name)


@pytest.mark.filterwarnings("ignore:\\s*This SAE has non-empty")
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("published_words", [False, True])
def test_local_copies_are_read_alike(
    models: Callable[[str], tuple[Path, Any]], tmp_path: Path, affine: bool, published_words: bool
) -> None:
    """A Gemma Scope 2 transcoder that somebody saved again, with and without Google's own words."""
    folder, hf_model = models("gemma3")
    config = {
        "architecture": "jumprelu_skip_transcoder" if affine else "jumprelu_transcoder",
        "hook_name": f"blocks.{LAYER}.hook_mlp_in",
        "hook_name_out": f"blocks.{LAYER}.hook_mlp_out",
        "model_name": "google/gemma-3-1b-pt" if published_words else str(folder),
    }
    if published_words:
        config["hf_hook_name"] = f"model.layers.{LAYER}.pre_feedforward_layernorm.output"
    cls, config_class = get_sae_class(config["architecture"])
    sae = cls(
        config_class(
            d_in=32, d_out=32, d_sae=24, apply_b_dec_to_input=False, metadata=SAEMetadata(**config)
        )
    ).requires_grad_(False)
    sae.b_enc += 0.1
    sae.save_model(tmp_path)
    loaded = load_sae_from_disk(tmp_path, device="cpu")
    site = f"blocks.{LAYER}.mlp.hook_in"
    assert sae_card(loaded).hook_name == site
    entry = read_sae_folder(tmp_path, release="r", sae_id="s")
    assert (entry.hook_name, dict(entry.processing)) == (site, {"fold_ln": False})
    assert site in entry.version
    tokens = tokens_for()
    caught = caught_in(hf_model, tokens)
    model = load_model(folder, device="cpu", **processing_for_sae(loaded))
    x = cache_sites(model, tokens, [site])[site]
    normed = caught["pre_feedforward_layernorm.out"]
    expected = (normed @ sae.W_enc + sae.b_enc).relu()
    assert off_by(encode(loaded, x), expected) < 1e-5
    output = expected @ sae.W_dec + sae.b_dec
    if affine:
        output = output + normed @ sae.W_skip.T
    assert off_by(reconstruct(loaded, x), output) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3"])
def test_hook_mlp_in_elsewhere_is_what_it_says(
    models: Callable[[str], tuple[Path, Any]], family: str
) -> None:
    """The stream before the MLP's norm, of SAEs on any model and of transcoders but Gemma 3's."""
    folder, hf_model = models(family)
    site = f"blocks.{LAYER}.hook_mlp_in"
    kinds = ["standard"] if family == "gemma3" else ["standard", "transcoder"]
    for architecture in kinds:
        config = {
            "hook_name": site,
            "model_name": str(folder),
            "architecture": architecture,
            "hook_name_out": f"blocks.{LAYER}.hook_mlp_out" if architecture != "standard" else None,
        }
        reading = reading_of(config)
        assert (reading.hook_name, reading.processing, reading.corrected) == (site, (), None)
    model = load_model(folder, device="cpu")
    model.set_use_hook_mlp_in(True)
    norm = {"gpt2": "ln_2", "llama": "post_attention_layernorm"}.get(
        family, "pre_feedforward_layernorm"
    )
    tokens = tokens_for()
    expected = caught_in(hf_model, tokens)[f"{norm}.in"]
    if family == "gpt2":
        expected = expected - expected.mean(-1, keepdim=True)
    assert off_by(cache_sites(model, tokens, [site])[site], expected) < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "gpt_oss"])
def test_processing_does_not_change_what_the_model_says(
    models: Callable[[str], tuple[Path, Any]], family: str
) -> None:
    folder, hf_model = models(family)
    tokens = tokens_for()
    model = load_model(folder, device="cpu")
    with torch.no_grad():
        expected, found = hf_model(tokens).logits.log_softmax(-1), model(tokens).log_softmax(-1)
    assert off_by(found, expected) < 1e-4


def test_heads_of_sae_lens_training_keep_their_value_biases(
    models: Callable[[str], tuple[Path, Any]],
) -> None:
    """Its trainer reads unprocessed weights, and says so by `center_writing_weights: False`."""
    folder, hf_model = models("gpt2")
    site = f"blocks.{LAYER}.attn.hook_z"
    asked = {"center_writing_weights": False}
    reading = reading_of({"hook_name": site, "model_from_pretrained_kwargs": asked})
    assert dict(reading.processing) == {**asked, "fold_value_biases": False}
    tokens = tokens_for()
    model = load_model(folder, device="cpu", **dict(reading.processing))
    found = cache_sites(model, tokens, [site])[site].flatten(2)
    assert off_by(found, caught_in(hf_model, tokens)["attn.c_proj.in"]) < 1e-5
