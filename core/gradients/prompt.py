"""The prompt of the page: an example, its tokens, and what is wrong with it."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.prompt import Prompt, prompt_for
from core.gradients.segment import device_of
from core.models.hooks import Model, context_length
from core.tokens import RowTexts, row_texts

DEMO_PROMPT = "Return the mean of the array elements along the given"
ARENA_PROMPT = "The Eiffel tower is in Paris"
ARENA_QUESTION = "The Eiffel tower is in the city of"


def example_prompt(source: str, tab: str) -> str:
    """The prompt shown at first: the demo's models know documentation only."""
    if source == "demo":
        return DEMO_PROMPT
    return ARENA_QUESTION if tab in ("logits", "circuit") else ARENA_PROMPT


def read_prompt(model: Model, saes: Sequence[SAE], prompt: str) -> Prompt:
    """The prompt as these SAEs should be shown it, whole.

    Raises:
        ValueError: an empty prompt, more tokens than the model takes, or SAEs of which only some
            were trained with a beginning-of-text token.
    """
    if not prompt.strip():
        raise ValueError("The prompt is empty; type a few words for the model to read.")
    read = prompt_for(model, saes, prompt, room=context_length(model))
    if read.omitted:
        raise ValueError(
            f"The prompt has {read.tokens.shape[1] + read.omitted} tokens and the model takes "
            f"{context_length(model)}; shorten it."
        )
    return read


def prompt_ids(model: Model, saes: Sequence[SAE], prompt: str) -> Int[Tensor, "1 pos"]:
    """Token ids of the prompt for these SAEs. Raises as `read_prompt`."""
    return checked_tokens(model, read_prompt(model, saes, prompt).tokens)


def checked_tokens(model: Model, tokens: Tensor) -> Int[Tensor, "batch pos"]:
    """`tokens` as [batch, pos] on the model's device; a single prompt may be [pos].

    Raises:
        ValueError: no tokens, more than the context holds, or ids outside the vocabulary.
    """
    ids = torch.as_tensor(tokens)
    ids = ids[None] if ids.dim() == 1 else ids
    if ids.dim() != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"Tokens of shape {list(ids.shape)} and type {ids.dtype} are no prompts; give token "
            "ids as [batch, pos], such as model.to_tokens(prompt)."
        )
    if ids.numel() == 0:
        raise ValueError("The prompt is empty; give at least one token.")
    if ids.shape[1] > context_length(model):
        raise ValueError(
            f"The prompt has {ids.shape[1]} tokens and the model takes {context_length(model)}; "
            "shorten it."
        )
    vocabulary = int(model.cfg.d_vocab)
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        raise ValueError(
            f"Token ids go from {int(ids.min())} to {int(ids.max())}, and the model knows 0 to "
            f"{vocabulary - 1}; use this model's own tokenizer."
        )
    return ids.long().to(device_of(model))


def prompt_texts(model: Model, ids: Int[Tensor, "1 pos"]) -> RowTexts:
    """Texts of the tokens."""
    return row_texts(model.tokenizer, ids[0].tolist())


def short_prompt_note(texts: Sequence[str], *, n_leading: int = 1) -> str | None:
    """What a prompt of a single token cannot show; None for a longer one.

    The first `n_leading` of `texts` stand in front of the prompt.
    """
    if len(texts) - n_leading > 1:
        return None
    return (
        "The prompt is a single token, so nothing can flow between positions of the text: write "
        "more to see how tokens depend on one another."
    )
