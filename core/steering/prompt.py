"""The prompt of steering as tokens: plain text, or a user's turn in the model's chat format."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import token_in_front
from core.corpus.prompt import prompt_for
from core.models import Model, check_tokens, context_length


@dataclass(frozen=True)
class SteerPrompt:
    """What the model reads before it writes."""

    tokens: tuple[int, ...]
    """Token ids, BOS included."""
    n_leading: int
    """Positions in front of the text: 1 where BOS stands there, or 0."""
    chat: bool = False
    """Whether it is in the model's chat format."""

    def tensor(self, model: Model) -> Int[Tensor, "1 n"]:
        """The tokens on the model's device."""
        return torch.tensor([self.tokens], device=next(model.parameters()).device)


def steer_prompt(
    model: Model, sae: SAE, text: str, *, new_tokens: int = 0, chat: bool = False
) -> SteerPrompt:
    """`text` as the tokens that the model reads for this SAE, with room for `new_tokens` more.

    With `chat`, it is what a user says, in the chat format of the tokenizer.

    Raises:
        ValueError: an empty prompt, one that is too long, or a tokenizer without a chat format.
    """
    if not text.strip():
        raise ValueError("The prompt is empty; type a few words that the model can go on from.")
    tokenizer: Any = model.tokenizer
    if chat:
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                "The model's tokenizer has no chat format; give the prompt as plain text."
            )
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        ids = list(tokenizer(asked, add_special_tokens=False)["input_ids"])
        front = token_in_front(model, [sae])
        if front is not None and ids[:1] != [front]:
            ids.insert(0, front)
        prompt = SteerPrompt(tuple(ids), int(front is not None), chat=True)
    else:
        # One more than there is room for, so that a prompt that is cut is seen to be.
        read = prompt_for(model, [sae], text, room=context_length(model))
        prompt = SteerPrompt(read.ids, read.n_leading)
        if read.omitted:
            raise _too_long(model, len(read.ids) + read.omitted, new_tokens)
    check_tokens(model, torch.tensor([prompt.tokens]))
    if len(prompt.tokens) + new_tokens > context_length(model):
        raise _too_long(model, len(prompt.tokens), new_tokens)
    return prompt


def _too_long(model: Model, n: int, new_tokens: int) -> ValueError:
    new = f" and {new_tokens} new ones" if new_tokens else ""
    return ValueError(
        f"The prompt has {n} tokens{new}, and the model's context holds {context_length(model)}; "
        "shorten the prompt or ask for fewer new tokens."
    )
