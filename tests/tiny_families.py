"""Tiny random models of many families: how attention and MLP add to the stream differs in each."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from core.models import NO_PROCESSING, Model, load_model
from tests.builders import train_tiny_tokenizer

_PLAIN: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
_LLAMA = {**_PLAIN, "num_key_value_heads": 2}
_GEMMA = {**_LLAMA, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4},
    "gpt_neox": {**_PLAIN, "rotary_pct": 0.25, "use_parallel_residual": True},
    "llama": _LLAMA,
    "gemma2": {**_GEMMA, "tie_word_embeddings": True},
    "gemma3_text": {**_GEMMA, "tie_word_embeddings": True},
    "olmo2": _LLAMA,
    "granite": {
        **_LLAMA,
        "residual_multiplier": 0.22,
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.0,
    },
    "mixtral": {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""What each config says besides the tokenizer's numbers."""
HOOKED = ("gpt2", "gpt_neox", "llama")
"""Those that `HookedSAETransformer` reads from a folder, too."""
NORM_AFTER = ("gemma2", "gemma3_text", "olmo2")
"""Those that normalise what a layer adds to the stream."""
CASES = [(kind, "bridge") for kind in FAMILIES] + [(kind, "hooked") for kind in HOOKED]
"""Every family with every model class that reads it."""

_HOME = TemporaryDirectory(prefix="sae-explorer-families-")


def write_random_model(
    kind: str, given: Mapping[str, Any], folder: Path, *, seed: int
) -> PreTrainedModel:
    """A random model of a family, saved to `folder`; every part of it matters, norms included."""
    tokenizer = train_tiny_tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ids, **given)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = noise * (1.5 / 32**0.5)
        elif name.endswith("weight"):
            # Gemma keeps what is to be added to one.
            parameter.data = 0.3 * noise + (0 if kind.startswith("gemma") else 1)
        else:
            parameter.data = 0.1 * noise
    model.tie_weights()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@cache
def hugging_face(kind: str) -> tuple[Path, PreTrainedModel]:
    """Its folder and the model itself."""
    folder = Path(_HOME.name) / kind
    return folder, write_random_model(kind, FAMILIES[kind], folder, seed=1)


@cache
def family(kind: str, backend: Any, *, processed: bool = True) -> Model:
    """The model as the app loads it; shared, so leave nothing on it."""
    processing = {} if processed else NO_PROCESSING
    return load_model(hugging_face(kind)[0], device="cpu", backend=backend, **processing)
