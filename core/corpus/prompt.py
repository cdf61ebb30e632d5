"""A typed text as the tokens that an SAE should be shown: the one home of that question.

    prompt = prompt_for(model, [sae], "Return the mean of the array")
    site = cache_sites(model, prompt.tokens, [hook])[hook]
    activations = encode(sae, site)[0, prompt.n_leading:]

The tokens are those that `core.corpus.load` makes of the same text: BOS in front if the SAEs were
trained so, never twice; nothing behind the text; special tokens' own spelling read as plain text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import token_in_front, trained_with_bos
from core.corpus.documents import Document
from core.corpus.row_length import MOST_CONTEXT, row_length, row_length_note
from core.corpus.tokenize import tokenize_documents
from core.models.hooks import Model, check_tokens, context_length


@dataclass(frozen=True, eq=False)
class Prompt:
    """One text as a model reads it for some SAEs."""

    tokens: Int[Tensor, "1 n"]
    """Token ids, on the model's device."""
    n_leading: int
    """Positions in front of the text: 1 where a beginning-of-text token stands there, or 0."""
    omitted: int
    """Tokens at the end of the text for which there was no room."""

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens, those in front of the text included."""
        return tuple(self.tokens[0].tolist())

    @property
    def text_ids(self) -> tuple[int, ...]:
        """Tokens of the text alone."""
        return self.ids[self.n_leading :]


def prompt_for(model: Model, saes: Sequence[SAE], text: str, *, room: int | None = None) -> Prompt:
    """`text` as the tokens that these SAEs should be shown; without SAEs, the model itself.

    `room` is how many positions there are at most, BOS included: by default what the model takes,
    up to `MOST_CONTEXT`.

    Raises:
        ValueError: an empty text or one without a token, a model without a tokenizer, SAEs that
            do not agree about BOS, or as `check_tokens`.
    """
    if model.tokenizer is None:
        raise ValueError("The model has no tokenizer; load it with one to give it texts.")
    if not text.strip():
        raise ValueError("The text is empty; type a few words.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text is not valid Unicode at character {error.start}; remove that character."
        ) from error
    front = token_in_front(model, saes)
    room = min(context_length(model), room or MOST_CONTEXT)
    [(_, ids)] = tokenize_documents([Document("", text)], model.tokenizer)
    if len(ids) == 0:
        raise ValueError("The tokenizer makes no token of this text; type other words.")
    n_leading = int(front is not None)
    kept = ids[: room - n_leading].astype(np.int64)
    whole = np.concatenate([np.array([front] * n_leading, dtype=np.int64), kept])
    tokens = torch.from_numpy(whole)[None]
    check_tokens(model, tokens)
    return Prompt(
        tokens=tokens.to(next(model.parameters()).device),
        n_leading=n_leading,
        omitted=len(ids) - len(kept),
    )


def reading_notes(model: Model, sae: SAE) -> tuple[str, ...]:
    """What a reader should know about how texts are read for this SAE, in sentences."""
    notes, metadata = [], sae.cfg.metadata
    if not trained_with_bos(sae):
        notes.append(
            "This SAE was trained without a beginning-of-text token, so none is put in front."
        )
    elif token_in_front(model, [sae]) is None:
        notes.append("This model has no beginning-of-text token, so none is put in front.")
    part: object = metadata.seqpos_slice
    if part and list(part) not in ([None], [None, None], [0, None]):  # type: ignore[call-overload]
        trained = range(row_length(model, sae))[slice(*part)]  # type: ignore[misc]
        notes.append(
            f"This SAE was trained on {_positions(trained)} only (seqpos_slice); what it does at "
            "other positions means little."
        )
    left_out: object = metadata.exclude_special_tokens
    if isinstance(left_out, list) and left_out:
        notes.append(
            f"This SAE was not trained on tokens {', '.join(map(str, left_out))} "
            "(exclude_special_tokens); what it does at them means little."
        )
    length = row_length_note(model, sae)
    return (*notes, *([length] if length else []))


def _positions(trained: range) -> str:
    if len(trained) == 0:
        return "no position"
    step = f", every {trained.step}th" if trained.step != 1 else ""
    return f"positions {trained[0]} to {trained[-1]}{step}"
