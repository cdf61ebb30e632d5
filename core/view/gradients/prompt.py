"""The prompt of the page: an example, its tokens, and what is wrong with it."""

from collections.abc import Sequence

from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.prompt import Prompt, prompt_for
from core.gradients.segment import checked_tokens
from core.models.hooks import Model, context_length
from core.tokens import RowTexts, row_texts

DEMO_PROMPT = "Return the mean of the array elements along the given"
COURSE_PROMPT = "The Eiffel tower is in Paris"
COURSE_QUESTION = "The Eiffel tower is in the city of"


def example_prompt(source: str, tab: str) -> str:
    """The prompt shown at first: the demo's models know documentation only."""
    if source == "demo":
        return DEMO_PROMPT
    return COURSE_QUESTION if tab in ("logits", "circuit") else COURSE_PROMPT


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
