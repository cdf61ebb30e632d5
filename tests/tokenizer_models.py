"""Tokenizers of every kind that language models come with, and a tiny model for each."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.builders import train_tiny_tokenizer

WORDS = ("the", "river", "runs", "under", "bridges", "of", "city", "mary", "john")
TEXT = "the river runs under the bridges of the city"


@dataclass(frozen=True)
class Kind:
    """One kind of tokenizer."""

    name: str
    """What it is called."""
    tokenizer: PreTrainedTokenizerFast
    """As its files have it."""
    front: int | None
    """The token that should stand in front of texts of SAEs trained with BOS; None for none."""


def _closing(single: str, **ids: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=list(ids.items())
    )


def _words(*first: str, **roles: str) -> PreTrainedTokenizerFast:
    """One token a word, in the order given and then `WORDS`."""
    unknown = roles.get("unk_token", first[0])
    numbers = {word: number for number, word in enumerate((*first, *WORDS))}
    raw = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, **roles)


def tokenizer_kinds() -> list[Kind]:
    """GPT-2's, Qwen's, none at all (with and without an unknown token), Llama 3's, one that closes
    texts too, and BERT's."""
    gpt2 = train_tiny_tokenizer()
    qwen = train_tiny_tokenizer()
    qwen.bos_token = None
    undeclared = train_tiny_tokenizer()
    undeclared.bos_token = undeclared.eos_token = undeclared.pad_token = None
    llama, closing = train_tiny_tokenizer(), train_tiny_tokenizer()
    end = {"<|endoftext|>": 0, "<end_of_turn>": 3}
    llama.backend_tokenizer.post_processor = _closing("<|endoftext|> $A", **end)
    closing.eos_token = "<end_of_turn>"
    closing.backend_tokenizer.post_processor = _closing("<|endoftext|> $A <end_of_turn>", **end)
    bert = _words(
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    bert.backend_tokenizer.post_processor = _closing("[CLS] $A [SEP]", **{"[CLS]": 2, "[SEP]": 3})
    return [
        Kind("bos", gpt2, 0),
        Kind("no bos, eos in its place", qwen, 0),
        Kind("nothing declared", undeclared, 0),
        Kind("no special token", _words("?"), None),
        Kind("no special token but unknown", _words("?", unk_token="?"), None),
        Kind("adds bos itself", llama, 0),
        Kind("adds bos and eos itself", closing, 0),
        Kind("cls and sep", bert, 2),
    ]


def write_model(folder: Path, tokenizer: PreTrainedTokenizerFast, *, spare: int = 0) -> Path:
    """A random GPT-2 (Llama for byte-level tokenizers without BOS) of 3 layers and width 32.

    `spare` rows of the embedding belong to no token.
    """
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    n = len(tokenizer) + spare
    model: PreTrainedModel
    if tokenizer.bos_token_id is None and len(tokenizer) > 100:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=n,
                max_position_embeddings=64,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=False,
                **special,
            )
        )
    else:
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=n, n_positions=64, n_embd=32, n_layer=3, n_head=4, **special)
        )
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = 1 + 0.2 * noise if is_norm else noise * (1.5 / 32**0.5)
    model.tie_weights()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
