"""Tiny random models of many families, as Hugging Face saves them, with gains that are not 1."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.builders import train_tiny_tokenizer

_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
_GEMMA = {**_LLAMA, "head_dim": 8, "tie_word_embeddings": True}
_GEMMA2 = {**_GEMMA, "sliding_window": 16, "query_pre_attn_scalar": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4},
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
    },
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
}
"""Settings of each family beyond the tokenizer's, by Hugging Face's model type."""


def write_family(
    kind: str,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """Write a random model of a family to `folder` and return it, in float32 and eval mode.

    Norm gains and biases are random, so that whatever leaves one out is seen.
    """
    tokenizer = tokenizer or train_tiny_tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ids, **FAMILIES[kind])
    if kind == "gpt2":
        config.n_ctx = config.n_positions
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = noise * 1.5 / 32**0.5
        elif name.endswith("weight"):
            # Gemma keeps gains less 1.
            parameter.data = 0.2 * noise + (0 if kind.startswith("gemma") else 1)
        else:
            parameter.data = 0.1 * noise
    model.tie_weights()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
