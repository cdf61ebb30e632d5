"""Tiny models and SAEs on disk, in the formats of the real ones; nothing is downloaded.

Their weights are random but scaled so that attention patterns, LayerNorms and latents all do
something: a test on them can fail. The same seed always gives the same files.
"""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, GatedSAEConfig, JumpReLUSAEConfig, StandardSAEConfig, TopKSAEConfig
from sae_lens import TranscoderConfig as SaeLensTranscoderConfig
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEConfig, SAEMetadata
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL_TOKENS = ("<|endoftext|>", "<unk>", "<start_of_turn>", "<end_of_turn>")
"""Special tokens of the tiny tokenizers; their ids are their positions here."""

SAE_ARCHITECTURES = ("standard", "jumprelu", "topk", "batchtopk", "gated")
"""What `make_sae` builds besides transcoders."""

_TOKENIZER_TEXT = (
    "The Eiffel tower is in Paris, and the river runs under the bridges of the city.",
    "A sparse autoencoder reads the residual stream and writes it again from its latents.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "def add(first, second):\n    return first + second\n",
    "In 1998 there were 12 of them; in 2024 there were 345. Who knows? Nobody does!",
)


def train_tiny_tokenizer(vocab_size: int = 300) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `vocab_size` tokens (at least 260: bytes and specials).

    Any string tokenizes without `<unk>`; `<|endoftext|>` is bos and eos, as in GPT-2.
    """
    if vocab_size < 256 + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size {vocab_size} cannot hold all bytes; ask for 260 or more.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TOKENIZER_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
    )


def write_tiny_gpt2(
    folder: str | Path,
    *,
    d_model: int = 32,
    n_layers: int = 3,
    n_heads: int = 4,
    vocab_size: int = 300,
    n_ctx: int = 64,
    seed: int = 0,
    architecture: str = "gpt2",
) -> Path:
    """Write a random model to `folder` as Hugging Face stores them and return the folder.

    `architecture` is "gpt2" or "llama". config.json of a GPT-2 includes `n_ctx`, as the hub's
    does. The same seed gives the same weights.
    """
    if architecture == "llama":
        return write_tiny_llama(
            folder,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            vocab_size=vocab_size,
            n_ctx=n_ctx,
            seed=seed,
        )
    if architecture != "gpt2":
        raise ValueError(f"Unknown architecture {architecture!r}; use 'gpt2' or 'llama'.")
    tokenizer = train_tiny_tokenizer(vocab_size)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=n_ctx,
        n_embd=d_model,
        n_layer=n_layers,
        n_head=n_heads,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _write_model(folder, GPT2LMHeadModel(config), tokenizer, seed, n_ctx=n_ctx)


def write_tiny_llama(
    folder: str | Path,
    *,
    d_model: int = 32,
    n_layers: int = 3,
    n_heads: int = 4,
    vocab_size: int = 300,
    n_ctx: int = 64,
    seed: int = 0,
) -> Path:
    """As `write_tiny_gpt2`, with rotary positions, RMSNorm, a gated MLP and half the KV heads."""
    tokenizer = train_tiny_tokenizer(vocab_size)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=n_ctx,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=max(1, n_heads // 2),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    return _write_model(folder, LlamaForCausalLM(config), tokenizer, seed)


def make_sae(
    architecture: str,
    *,
    d_in: int,
    d_sae: int,
    hook_name: str,
    model_name: str = "tiny-gpt2",
    seed: int = 0,
    normalize_activations: str = "none",
    apply_b_dec_to_input: bool | None = None,
    dtype: str = "float32",
    **metadata: Any,
) -> SAE:
    """An SAE with random parameters whose latents fire on some activations and not on others.

    `architecture` is one of `SAE_ARCHITECTURES`, "transcoder" or "skip_transcoder".
    A `hook_name` ending in `hook_z` gives an SAE that reads `[..., n_heads, d_head]`, with
    d_in = n_heads·d_head. "batchtopk" is its inference form: a JumpReLU with one threshold.
    Further keywords go to the metadata. Parameters are frozen and the SAE is in eval mode.
    """
    is_transcoder = architecture in ("transcoder", "skip_transcoder")
    if apply_b_dec_to_input is None:
        apply_b_dec_to_input = not is_transcoder
    common: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": dtype,
        "normalize_activations": normalize_activations,
        "apply_b_dec_to_input": apply_b_dec_to_input,
        "reshape_activations": "hook_z" if hook_name.endswith("hook_z") else "none",
        "metadata": SAEMetadata(
            hook_name=hook_name, model_name=model_name, **{"prepend_bos": True, **metadata}
        ),
    }
    config: SAEConfig
    if architecture == "standard":
        config = StandardSAEConfig(**common)
    elif architecture in ("jumprelu", "batchtopk"):
        config = JumpReLUSAEConfig(**common)
    elif architecture == "topk":
        config = TopKSAEConfig(**common, k=max(2, d_sae // 8), rescale_acts_by_decoder_norm=False)
    elif architecture == "gated":
        config = GatedSAEConfig(**common)
    elif is_transcoder:
        config_class = get_sae_class(architecture)[1]
        assert issubclass(config_class, SaeLensTranscoderConfig)
        config = config_class(**common, d_out=metadata.get("d_out", d_in))
    else:
        raise ValueError(f"Unknown architecture {architecture!r}; use one of {SAE_ARCHITECTURES}.")
    sae = get_sae_class(config.architecture())[0](config)
    _fill_sae(sae, seed)
    if architecture == "batchtopk":
        sae.threshold.data.fill_(0.3)
    return sae.eval().requires_grad_(False)


def write_sae(sae: SAE, folder: str | Path, *, sparsity: torch.Tensor | None = None) -> Path:
    """Write `sae` to `folder` in sae_lens' format and return the folder.

    With `sparsity` (log10 of the firing rate, `[d_sae]`), sparsity.safetensors is written too.
    """
    folder = Path(folder)
    sae.save_model(folder)
    if sparsity is not None:
        save_file({"sparsity": sparsity.contiguous()}, folder / "sparsity.safetensors")
    return folder


def _write_model(
    folder: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    **config_entries: Any,
) -> Path:
    folder = Path(folder)
    generator = torch.Generator().manual_seed(seed)
    # The usual initialisation (std 0.02) gives a model that ignores its input: near-uniform
    # attention and next to no MLP output. Variance about 1/fan_in makes every site matter.
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            is_norm_weight = name.endswith("weight")
            parameter.data = 1 + 0.2 * noise if is_norm_weight else 0.1 * noise
        else:
            parameter.data = noise * (1.5 / model.config.hidden_size**0.5)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config_path = folder / "config.json"
    config = json.loads(config_path.read_text())
    config_path.write_text(json.dumps({**config, **config_entries}, indent=2))
    return folder


def _fill_sae(sae: SAE, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def noise(parameter: torch.Tensor) -> torch.Tensor:
        return torch.randn(parameter.shape, generator=generator)

    decoder = noise(sae.W_dec)
    sae.W_dec.data = (decoder / decoder.norm(dim=-1, keepdim=True)).to(sae.dtype)
    for name, parameter in sae.named_parameters():
        if name == "W_dec":
            continue
        if name == "W_enc" and sae.W_enc.shape == sae.W_dec.T.shape:
            # As in trained SAEs, a latent reads roughly the direction that it writes.
            value = sae.W_dec.data.T.float() + 0.3 * noise(parameter) / sae.cfg.d_in**0.5
        elif name in ("W_enc", "W_skip"):
            value = noise(parameter) / sae.cfg.d_in**0.5
        elif name == "threshold":
            value = 0.3 + 0.3 * noise(parameter).abs()
        elif name in ("b_enc", "b_gate"):
            value = -0.5 + 0.25 * noise(parameter)
        else:
            value = 0.1 * noise(parameter)
        parameter.data = value.to(sae.dtype).contiguous()
