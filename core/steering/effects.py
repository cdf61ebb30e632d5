"""What an intervention does to the model's predictions on a text that stays the same.

Texts that a steered model writes differ from row to row, so nothing can be compared on them. Here
every row reads the same tokens: the reference text (the prompt and what the unsteered model writes
after it) for the KL divergence and the probability of chosen tokens, held-out text for the loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.models.hooks import Model
from core.patch_scoping.injection import rows_at_once
from core.steering.steerer import Steerer

MEMORY_BYTES = 512 << 20
"""Bytes that the logits of one batch may take."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A text, and what the model predicts in it unsteered."""

    tokens: Int[Tensor, "1 n"]
    """Prompt and continuation."""
    first: int
    """First position whose prediction counts; all later ones do, too."""
    log_probs: Float[Tensor, "m vocab"]
    """Unsteered log-probabilities at the positions that count."""

    @property
    def n(self) -> int:
        """Predictions that count."""
        return len(self.log_probs)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What rows of interventions do on held-out texts."""

    loss: Float[Tensor, "rows texts"]
    """Mean loss of each text, in nats a token."""
    boosted: Float[Tensor, "rows texts"]
    """Probability of the row's chosen tokens together, mean over the text; NaN without any."""


@torch.no_grad()
def reference_text(model: Model, tokens: Int[Tensor, "1 n"], first: int) -> Reference:
    """Unsteered predictions from position `first` of a text on.

    Raises ValueError when no position is left.
    """
    n = tokens.shape[1]
    if not 0 <= first < n:
        raise ValueError(
            f"The text has {n} tokens, so no prediction counts from position {first} on; choose an "
            "earlier one."
        )
    logits = model(tokens, return_type="logits")[0, first:]
    return Reference(tokens, first, logits.float().log_softmax(-1))


@torch.no_grad()
def divergences(
    model: Model,
    steerer: Steerer,
    numbers: Sequence[int],
    reference: Reference,
    *,
    check: Callable[[], None] | None = None,
) -> Float[Tensor, " rows"]:
    """Mean over positions of KL(steered ‖ unsteered), in nats, of interventions `numbers`.

    `check` may raise, to stop.
    """
    tokens = reference.tokens
    length = tokens.shape[1]
    # Logits, their exponentials and products exist side by side.
    step = rows_at_once(model, length, length, MEMORY_BYTES // 4)
    found = []
    for start in range(0, len(numbers), step):
        if check is not None:
            check()
        some = numbers[start : start + step]
        with steerer.around(some):
            logits = model(tokens.expand(len(some), -1), return_type="logits")
        log_probs = logits[:, reference.first :].float().log_softmax(-1)
        probs = log_probs.exp()
        # A probability that underflows contributes nothing.
        gap = (log_probs - reference.log_probs).masked_fill_(probs == 0, 0.0)
        found.append(torch.linalg.vecdot(probs, gap).mean(-1).clamp_min(0))
    return torch.cat(found).cpu() if found else torch.zeros(0)


@torch.no_grad()
def held_out(
    model: Model,
    steerer: Steerer,
    numbers: Sequence[int],
    texts: Int[Tensor, "texts pos"],
    chosen: Int[Tensor, "rows k"] | None = None,
    *,
    check: Callable[[], None] | None = None,
) -> HeldOut:
    """Loss and probability of chosen tokens under interventions `numbers` on equally long texts.

    The first token of a text is predicted by nothing. `chosen` holds tokens for each row; -1 stands
    for none.
    """
    loss = torch.zeros(len(numbers), len(texts))
    boosted = torch.full_like(loss, torch.nan)
    pairs = [(row, text) for row in range(len(numbers)) for text in range(len(texts))]
    step = rows_at_once(model, texts.shape[1], texts.shape[1], MEMORY_BYTES // 4)
    for start in range(0, len(pairs), step):
        if check is not None:
            check()
        rows, which = (list(it) for it in zip(*pairs[start : start + step], strict=True))
        tokens = texts[which]
        with steerer.around([numbers[row] for row in rows]):
            logits = model(tokens, return_type="logits")[:, :-1].float()
        total = logits.logsumexp(-1)
        own = logits.gather(2, tokens[:, 1:, None])[..., 0]
        loss[rows, which] = (total - own).mean(1).cpu()
        if chosen is not None:
            ids = chosen[rows].to(logits.device)
            index = ids.clamp_min(0)[:, None].expand(-1, logits.shape[1], -1)
            probs = (logits.gather(2, index) - total[..., None]).exp() * (ids >= 0)[:, None]
            boosted[rows, which] = probs.sum(-1).mean(1).cpu()
    return HeldOut(loss, boosted)


@torch.no_grad()
def plain_perplexity(
    model: Model, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> Float[Tensor, " n"]:
    """Perplexity of each text after the prompt, by the model as it is: exp of its mean loss.

    NaN for a text without a token. A text that says one word over and over has a low one.
    """
    found = torch.full((len(texts),), torch.nan)
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        if len(text):
            by_length.setdefault(len(text), []).append(number)
    device = next(model.parameters()).device
    for length, numbers in by_length.items():
        whole = len(prompt) + length
        step = rows_at_once(model, whole, whole, MEMORY_BYTES // 4)
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            rows = torch.tensor([[*prompt, *texts[it]] for it in some], device=device)
            logits = model(rows, return_type="logits")[:, len(prompt) - 1 : -1].float()
            own = logits.log_softmax(-1).gather(2, rows[:, len(prompt) :, None])[..., 0]
            found[some] = (-own.mean(1)).exp().cpu()
    return found
