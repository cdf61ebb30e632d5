"""A tiny random model of Gemma's architecture, with Gemma's chat format."""

from pathlib import Path

from transformers import GemmaConfig, GemmaForCausalLM

from tests.builders import _write_model, train_tiny_tokenizer

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""As Gemma's tokenizer has it, without its complaint about system messages."""


def write_tiny_gemma(
    folder: str | Path, *, d_model: int = 32, n_layers: int = 4, n_ctx: int = 128, seed: int = 0
) -> Path:
    """Write a random Gemma (one key-value head, scaled embeddings) to `folder` and return it."""
    tokenizer = train_tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    config = GemmaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=n_ctx,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=d_model // 4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return _write_model(folder, GemmaForCausalLM(config), tokenizer, seed)
