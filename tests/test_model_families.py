"""Every family of models that can be made small computes what Hugging Face's module computes, with
processed weights too, or is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.models import NO_PROCESSING, load_model
from tests.tiny_families import write_random_model

pytestmark = pytest.mark.slow

_PLAIN: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}
_EXPERTS = {
    **_GROUPED,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_SHORT = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
_FALCON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_OPT = {**_PLAIN, "ffn_dim": 64, "word_embed_proj_dim": 32}
_GEMMA = {**_HEADS, "sliding_window": 16, "query_pre_attn_scalar": 8, "tie_word_embeddings": True}
_LONG_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

READ: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("gpt2", _SHORT),
    "GPT-2, attention scaled by layer": (
        "gpt2",
        {**_SHORT, "scale_attn_by_inverse_layer_idx": True},
    ),
    "GPT-J": ("gptj", {**_SHORT, "rotary_dim": 4}),
    "CodeGen": ("codegen", {**_SHORT, "rotary_dim": 4}),
    "StarCoder": ("gpt_bigcode", {**_SHORT, "n_inner": 64}),
    "GPT-Neo": (
        "gpt_neo",
        {
            **{"hidden_size": 32, "intermediate_size": 64, "num_layers": 3, "num_heads": 4},
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1], [["global"], 1]],
        },
    ),
    "Pythia": ("gpt_neox", {**_PLAIN, "rotary_pct": 0.25, "use_parallel_residual": True}),
    "NeoX, one after the other": ("gpt_neox", {**_PLAIN, "use_parallel_residual": False}),
    "Bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}),
    "OPT": ("opt", _OPT),
    "OPT-350m": ("opt", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "Falcon": ("falcon", {**_FALCON, "parallel_attn": True, "bias": False}),
    "Phi": ("phi", {**_PLAIN, "partial_rotary_factor": 0.5}),
    "Phi-3": ("phi3", _GROUPED),
    "StableLM": ("stablelm", _GROUPED),
    "StarCoder 2": ("starcoder2", _GROUPED),
    "Llama": ("llama", _GROUPED),
    "Llama with biases": ("llama", {**_GROUPED, "attention_bias": True, "mlp_bias": True}),
    "Llama 3.1": ("llama", {**_GROUPED, "rope_parameters": _LONG_ROPE}),
    "Mistral": ("mistral", _GROUPED),
    "Mixtral": ("mixtral", _EXPERTS),
    "Qwen 2": ("qwen2", {**_GROUPED, "tie_word_embeddings": True}),
    "Qwen 2 MoE": ("qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 16}),
    "Qwen 3": ("qwen3", _HEADS),
    "Qwen 3 MoE": ("qwen3_moe", {**_EXPERTS, "head_dim": 8}),
    "Gemma": ("gemma", {**_HEADS, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "Gemma 2": ("gemma2", _GEMMA),
    "Gemma 3": ("gemma3_text", _GEMMA),
    "OLMo": ("olmo", _PLAIN),
    "OLMo 2": ("olmo2", _GROUPED),
    "OLMoE": ("olmoe", _EXPERTS),
    "Granite": ("granite", {**_GROUPED, "residual_multiplier": 0.22, "embedding_multiplier": 3.0}),
    "SmolLM 3": ("smollm3", _GROUPED),
    "gpt-oss": ("gpt_oss", {**_EXPERTS, "head_dim": 8, "sliding_window": 16}),
}
"""Families by name: Hugging Face's model type, and the config besides what the tokenizer says."""
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "Cohere": ("cohere", _GROUPED, "other numbers than Hugging Face .*CohereForCausalLM"),
    "Cohere 2": ("cohere2", {**_GROUPED, "sliding_window": 16}, "other numbers than Hugging Face"),
    "HunYuan": ("hunyuan_v1_dense", _HEADS, "other numbers than Hugging Face"),
    "Falcon 40B": (
        "falcon",
        {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
        "cannot take .* apart",
    ),
    "OPT, norms behind": ("opt", {**_OPT, "do_layer_norm_before": False}, "cannot take .* apart"),
    "Phi with norms on queries": ("phi", {**_PLAIN, "qk_layernorm": True}, "cannot take .* apart"),
    "Persimmon": ("persimmon", _PLAIN, "does not support the architecture"),
}


@pytest.mark.parametrize("family", READ)
def test_computes_what_hugging_face_does(family: str, tmp_path: Path) -> None:
    model = write_random_model(*READ[family], tmp_path / "model", seed=0)
    tokens = torch.randint(
        1, model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        expected = model(tokens).logits.log_softmax(-1)
        ways: tuple[dict[str, Any], ...]
        ways = ({}, {"center_writing_weights": False}, NO_PROCESSING)
        for flags in ways:
            found = load_model(tmp_path / "model", device="cpu", **flags)(tokens).log_softmax(-1)
            torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_computed_otherwise_is_refused(family: str, tmp_path: Path) -> None:
    kind, given, message = REFUSED[family]
    write_random_model(kind, given, tmp_path / "model", seed=0)
    with pytest.raises(ValueError, match=message) as refused:
        load_model(tmp_path / "model", device="cpu")
    assert "\n" not in str(refused.value)
    assert "choose a" in str(refused.value)
