"""The prompt of the page: an example, its tokens, and what is wrong with it."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from core.gradients.segment import checked_tokens
from core.models.hooks import Model
from core.tokens import RowTexts, row_texts

DEMO_PROMPT = "Return the mean of the array elements along the given"
COURSE_PROMPT = "The Eiffel tower is in Paris"
COURSE_QUESTION = "The Eiffel tower is in the city of"


def example_prompt(source: str, tab: str) -> str:
    """The prompt shown at first: the demo's models know documentation only."""
    if source == "demo":
        return DEMO_PROMPT
    return COURSE_QUESTION if tab in ("logits", "circuit") else COURSE_PROMPT


def prompt_ids(model: Model, prompt: str) -> Int[Tensor, "1 pos"]:
    """Token ids of the prompt, beginning-of-text token first.

    Raises:
        ValueError: an empty prompt, or more tokens than the model takes.
    """
    if not prompt.strip():
        raise ValueError("The prompt is empty; type a few words for the model to read.")
    ids = model.to_tokens(prompt, prepend_bos=True, truncate=False)
    return checked_tokens(model, torch.as_tensor(ids))


def prompt_texts(model: Model, ids: Int[Tensor, "1 pos"]) -> RowTexts:
    """Texts of the tokens."""
    return row_texts(model.tokenizer, ids[0].tolist())


def short_prompt_note(texts: Sequence[str]) -> str | None:
    """What a prompt of a single token cannot show; None for a longer one."""
    if len(texts) > 2:
        return None
    return (
        "The prompt is a single token, so nothing can flow between positions of the text: write "
        "more to see how tokens depend on one another."
    )
