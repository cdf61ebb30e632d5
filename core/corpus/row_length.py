"""How long rows of text are: as the SAE knows them, and never as long as a model could take.

Attention needs memory by the square of the row's length, so that a model of 131,072 positions
cannot be run on whole rows, and no SAE was trained on them.
"""

from typing import Any

from sae_lens import SAE

from core.models.hooks import Model, context_length

DEFAULT_CONTEXT = 1024
"""Most tokens of a row where an SAE does not say on how many it was trained."""
MOST_CONTEXT = 2048
"""Most tokens of a row unless the caller asks for more, whatever an SAE says."""


def row_length(model: Model, sae: SAE | None = None) -> int:
    """Tokens of a row, BOS included: the SAE's `context_size` within the model's and the limits.

    Raises ValueError for a `context_size` that is no number of tokens above 1.
    """
    room, declared = context_length(model), _declared(sae)
    return min(room, DEFAULT_CONTEXT if declared is None else min(declared, MOST_CONTEXT))


def row_length_note(model: Model, sae: SAE) -> str | None:
    """What was shortened and why, in a sentence; None where rows are as the SAE or model has it."""
    room, declared, used = context_length(model), _declared(sae), row_length(model, sae)
    if declared is None and room > used:
        return (
            f"This SAE does not say how long its texts were, so texts are read in pieces of "
            f"{used:,} tokens; the model would take {room:,}."
        )
    if declared is not None and min(declared, room) > used:
        return (
            f"This SAE was trained on pieces of {declared:,} tokens; texts are read in pieces of "
            f"{used:,}, which keeps the memory of attention in bounds."
        )
    return None


def _declared(sae: SAE | None) -> int | None:
    told: Any = sae.cfg.metadata.context_size if sae is not None else None
    if not told:
        return None
    try:
        whole = int(told)
    except (TypeError, ValueError):
        whole = 0
    if isinstance(told, bool) or whole != float(told if whole else 0) or whole < 2:
        raise ValueError(
            f"context_size of the SAE is {told!r}; write its number of tokens, 2 or more, in the "
            "metadata of its cfg.json, or leave it out."
        )
    return whole
