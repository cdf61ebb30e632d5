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
        module.register_forward_hook(keep(name.removeprefix(layers).removeprefix(".")), with_kwargs=True)
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
        caught["value_bias"] = bias.bias.detach().chunk(3)[2]
    return caught


def tokens_for() -> Tensor:
    return torch.randint(4, 290, (2, 12), generator=torch.Generator().manual_seed(1))


def stand_in(entry: SaeEntry, d_in: int, model_name: str) -> SAE:
    """A small SAE with the metadata that sae_lens' loader gives, before anything is corrected."""
    site = entry.hook_name or f"blocks.{LAYER}.hook_resid_mid"
    hook = re.sub(r"^blocks\.\d+", f"blocks.{LAYER}", site)
    metadata: dict[str, Any] = {"model_name": model_name, "hook_name": hook}
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
    loader, _, family = combination
    if family not in CONFIGS:
        pytest.skip(f"no tiny {family} model: transformers has no text-only configuration of it")
    entry = combinations()[combination]
    read, predicted = TRAINED_ON[combination]
    folder, hf_model = models(family)
    tokens = tokens_for()
    caught = caught_in(hf_model, tokens)
    expected = read(caught)
    sae = at_trained_site(stand_in(entry, expected.shape[-1], entry.model), release=entry.release)
    assert entry.processing in ((), tuple(sorted(sae.cfg.metadata.model_from_pretrained_kwargs or ())))\
        or dict(entry.processing) == sae.cfg.metadata.model_from_pretrained_kwargs
    if entry.hook_name:
        assert str(sae.cfg.metadata.hook_name).split(".", 2)[2:] == entry.hook_name.split(".", 2)[2:]
    model = load_model(folder, device="cpu", **processing_for_sae(sae))
    check_fits(sae, model, model_name=entry.model)
    hook, hook_out = str(sae.cfg.metadata.hook_name), sae.cfg.metadata.hook_name_out
    found = cache_sites(model, tokens, [hook, *([hook_out] if hook_out else [])])
    torch.testing.assert_close(found[hook].flatten(2), expected, atol=1e-5, rtol=1e-5)
    if predicted is not None:
        torch.testing.assert_close(found[hook_out], predicted(caught), atol=1e-5, rtol=1e-5)
    encode(sae, found[hook])
